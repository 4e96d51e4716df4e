"""Blinded rating studies: clinicians judge images as real or synthetic, rank them, or find the real one of two.

Free of torch, so that the study server starts alone (``python -m siamese.study serve``).
"""
