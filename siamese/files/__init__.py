"""Files and folders of strangers, and files that must not be lost: names, archives, listings, atomic writes, clearing up."""
