"""The studio's web page: draw a lesion mask, sample an image of it.

Nothing here imports torch or diffusers, except ``engine`` in a process of its own.
"""
