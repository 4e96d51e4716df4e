"""Known vulnerabilities of what is installed, by pip-audit. Exit status 1 where there are any; where the data cannot be had, a line that says so."""

from __future__ import annotations

import json
import subprocess
import sys

SECONDS = 180
COMMAND = [
    sys.executable,
    "-m",
    "pip_audit",
    "--format",
    "json",
    "--progress-spinner",
    "off",
    "--timeout",
    "10",
]


def judge(status: int, out: str, complaints: str) -> tuple[int, str]:
    """Exit status, and what to print, from what pip-audit answered."""
    try:
        found = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = complaints.strip().splitlines()[-1:] or ["no answer"]
        return 0, f"pip-audit: SKIPPED, its data cannot be reached ({last[0][:200]})."
    vulnerable = [(d, v) for d in found for v in d.get("vulns", [])]
    if vulnerable:
        lines = [
            f"  {d['name']} {d['version']}: {v['id']}{' (' + ', '.join(v['aliases']) + ')' if v.get('aliases') else ''}, mended in "
            f"{', '.join(v.get('fix_versions', [])) or 'no version yet'}"
            for d, v in vulnerable
        ]
        return 1, "\n".join(
            [
                f"pip-audit: {len(vulnerable)} KNOWN VULNERABILITIES. Update the packages in requirements.txt:",
                *lines,
            ]
        )
    audited = [d for d in found if "skip_reason" not in d]
    if not audited:
        return (
            0,
            f"pip-audit: SKIPPED, its data knows none of the {len(found)} packages; the index that is used here has none of it.",
        )
    passed = f", {len(found) - len(audited)} could not be looked up" if len(audited) < len(found) else ""
    return 0, f"pip-audit: no known vulnerability in {len(audited)} packages{passed}."


def main() -> None:
    """Ask, print, exit."""
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=SECONDS)
        status, said = judge(done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        status, said = 0, f"pip-audit: SKIPPED, its data did not come within {SECONDS} s."
    print(said, flush=True)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
