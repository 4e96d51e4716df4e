"""What results are written with: sections of text, tables and plots, without knowledge of any protocol or web page."""
