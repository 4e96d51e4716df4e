"""The studio's web page: draw a lesion mask, sample an image of it.

Nothing here imports torch or diffusers before the page is served: ``worker`` does, in its own thread.
"""
