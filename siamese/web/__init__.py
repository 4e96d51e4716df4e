"""What both servers, the studio's and the studies', put between the network and their pages. Free of Gradio and torch."""
