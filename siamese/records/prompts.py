"""The prompts that the embedded model knows."""

POLYP = "a colonoscopy image of a polyp"
LESION = "a dermoscopy image of a skin lesion"
EMPTY = ""
EMBEDDED_PROMPTS = (POLYP, LESION, EMPTY)
PROMPT_OF_ORGAN = {"polyp": POLYP, "lesion": LESION}
