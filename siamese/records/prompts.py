"""The prompts that the embedded model knows. Free of torch, so that the page and the study server start at once."""

POLYP = "a colonoscopy image of a polyp"
LESION = "a dermoscopy image of a skin lesion"
EMPTY = ""
"""The prompt of the unconditional half of classifier-free guidance."""
PROMPT_OF_ORGAN = {"polyp": POLYP, "lesion": LESION}
NAMES = {POLYP: ("Colonoscopy polyp", "polyp"), LESION: ("Dermoscopy skin lesion", "lesion")}
"""Short name of each subject for the page, and the word for what is drawn, of the prompts of the embedded model."""
