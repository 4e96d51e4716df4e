"""SQLite on a network drive, on FUSE or in memory never counts as lasting: the page says what could be lost, and a study asks before it opens."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamese.study.__main__ import main
from siamese.study.storage import mounts
from siamese.study.storage.durability import DatasetOptions, Durability
from siamese.study.storage.mounts import file_system, is_remote, type_of
from siamese.study.storage.opening import open_store
from tests.study.admin_pages import PASSWORD
from tests.study.phantom_study import write_folders
from tests.study.volumes import BOX, mount, page_of

TABLE = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
23 22 0:5 / /dev rw,nosuid - devtmpfs udev rw,size=8G
24 22 0:40 / /home/study rw,relatime shared:5 master:2 - nfs4 server:/export/home rw,vers=4.2
25 24 254:0 /srv/local /home/study/local rw - ext4 /dev/vda1 rw
26 22 0:41 / /mnt/my\040drive\134x rw,nosuid shared:9 - fuse.rclone remote: rw,user_id=0
27 22 0:42 / /mnt/my rw - cifs //nas/share rw
28 22 0:43 / /data rw - autofs systemd-1 rw,fd=30
29 28 0:44 / /data rw - fuse.hf-mount bucket rw
30 22 8:1 / /media/stick rw - fuseblk /dev/sda1 rw
31 22 0:45 / /tmp rw - tmpfs tmpfs rw
32 22 0:46 /exported /srv/bound rw - virtiofs share rw
33 22 0:47 / /wärme rw - 9p host rw
a line that is none of the table's
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/var/lib/studies", "ext4"),
        ("/home/study", "nfs4"),
        ("/home/study/a/b", "nfs4"),
        ("/home/study/local/a", "ext4"),
        ("/home/studyother", "ext4"),
        ("/mnt/my drive\\x/a", "fuse.rclone"),
        ("/mnt/my/a", "cifs"),
        ("/mnt/my drive", "ext4"),
        ("/data/x", "fuse.hf-mount"),
        ("/media/stick/s", "fuseblk"),
        ("/tmp/s", "tmpfs"),
        ("/srv/bound", "virtiofs"),
        ("/wärme/x", "9p"),
    ],
)
def test_type_of_the_nearest_mount(path, kind):
    assert type_of(Path(path), TABLE) == kind
    assert is_remote(kind) == (kind not in ("ext4", "tmpfs"))


def test_kinds():
    for kind in (
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "fuse",
        "fuse.sshfs",
        "fuse.s3fs",
        "fuse.glusterfs",
        "9p",
        "ceph",
        "glusterfs",
        "lustre",
        "afs",
        "davfs",
        "beegfs",
        "virtiofs",
        "vboxsf",
    ):
        assert is_remote(kind), kind
    for kind in ("ext4", "xfs", "btrfs", "zfs", "overlay", "f2fs", "apfs", "tmpfs", "fusectl"):
        assert not is_remote(kind), kind


def lie(monkeypatch, tmp_path: Path, kind: str, folder: Path) -> None:
    """Let ``folder`` be a mount of type ``kind``."""
    table = tmp_path / "mountinfo"
    point = str(folder).replace(" ", r"\040")
    table.write_text(f"22 1 254:0 / / rw - ext4 /dev/vda1 rw\n40 22 0:40 / {point} rw - {kind} source rw\n")
    monkeypatch.setattr(mounts, "MOUNTINFO", table)


def test_other_systems_say_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert file_system(tmp_path) is None
    assert Durability(tmp_path, True).warning() is None
    (tmp_path / "empty").touch()
    monkeypatch.setattr(mounts, "MOUNTINFO", tmp_path / "empty")
    assert file_system(tmp_path) is None
    assert Durability(tmp_path, True).lasting


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="no Linux")
def test_this_machine(monkeypatch):
    monkeypatch.setattr(mounts, "MOUNTINFO", Path("/proc/self/mountinfo"))
    assert file_system(Path("/proc")) == "proc"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("nfs4", "network drive or FUSE (nfs4)"),
        ("fuse.rclone", "network drive or FUSE (fuse.rclone)"),
        ("tmpfs", "in memory (tmpfs)"),
    ],
)
def test_the_page_says_so_and_asks(tmp_path, monkeypatch, kind, says):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    lie(monkeypatch, tmp_path, kind, tmp_path / "data")
    (tmp_path / "data").mkdir()
    client, csrf = page_of(tmp_path / "data")
    page = client.get("/study/admin/studies/phantoms").text
    assert BOX in page
    assert says in page
    assert "all answers of all studies could be lost" in page
    assert "SIAMESE_STUDY_DATABASE" in page
    refused = client.post("/study/admin/studies/phantoms/open", data={"csrf": csrf})
    assert refused.status_code == 422
    assert "The study was not opened" in refused.text
    assert (
        client.post(
            "/study/admin/studies/phantoms/open", data={"csrf": csrf, "accept_loss": "yes"}
        ).status_code
        == 303
    )


@pytest.mark.slow
def test_command_line_asks(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("SPACE_ID", raising=False)
    lie(monkeypatch, tmp_path, "cifs", tmp_path / "da ta")
    write_folders(tmp_path / "images", 4)
    make = [
        "create",
        str(tmp_path / "images"),
        "--id",
        "one",
        "--title",
        "One",
        "--data",
        str(tmp_path / "da ta"),
    ]
    with pytest.raises(SystemExit, match="1"):
        main(make)
    assert "cifs" in capsys.readouterr().err
    assert open_store(tmp_path / "da ta").studies() == []
    main([*make, "--accept-loss"])
    assert open_store(tmp_path / "da ta").study("one").state == "open"


def test_a_space_whose_volume_is_fuse_does_not_last(tmp_path, on_space, monkeypatch):
    volume = tmp_path / "volume"
    volume.mkdir()
    mount(monkeypatch, volume)
    assert Durability(volume / "studies", True).lasting
    lie(monkeypatch, tmp_path, "fuse.hf-mount", volume)
    assert "fuse.hf-mount" in Durability(volume / "studies", True).warning()
    assert Durability(volume / "studies", sqlite=False).warning() is None  # a database server's own matter
    (tmp_path / "link").symlink_to(volume / "studies")
    assert Durability(tmp_path / "link", True).remote == "fuse.hf-mount"


def test_copies_bound_the_loss(tmp_path, monkeypatch):
    lie(monkeypatch, tmp_path, "nfs", tmp_path / "data")
    assert (
        "to clinic/ratings every 5 minutes: up to 5 minutes of answers could be lost"
        in Durability(tmp_path / "data", True, DatasetOptions("clinic/ratings", 5)).warning()
    )
