"""`fssbench download`, from a server of our own."""

import functools
import hashlib
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from command_line import fssbench

from fssbench.download import catalogue, fetch
from fssbench.download.catalogue import SOURCES, Archive, Source, addressed, choose
from fssbench.errors import DataError, UsageError


class Silent:
    def bytes_done(self, done: int, total: int | None) -> None: ...

    def files_done(self, files: int) -> None: ...


def silently(description: str) -> AbstractContextManager[Silent]:
    return nullcontext(Silent())


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str] = []

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """A server of `tmp_path/served`, its address ending in '/'."""
    (tmp_path / "served").mkdir()
    Quiet.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "served")))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def toy(tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set of a zip and a tar, with right sizes and hashes."""
    served = tmp_path / "served"
    with zipfile.ZipFile(served / "images.zip", "w") as archive:
        archive.writestr("val/1.jpg", b"one")
        archive.writestr("val/2.jpg", b"two")
    (tmp_path / "list.txt").write_text("1\n2\n")
    with tarfile.open(served / "lists.tar", "w") as tar:
        tar.add(tmp_path / "list.txt", "lists/list.txt")
    archives = tuple(
        Archive(name.split(".")[0], f"http://127.0.0.1:1/gone/{name}", (served / name).stat().st_size,
                "md5:" + hashlib.md5((served / name).read_bytes()).hexdigest())
        for name in ("images.zip", "lists.tar")
    )  # fmt: skip
    monkeypatch.setitem(catalogue.SOURCES, "toy", Source(archives, "toy/val and toy/lists", folder="toy"))
    return "toy"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_every_part_is_fetched_checked_and_unpacked_into_the_data_sets_folder(
    tmp_path: Path, mirror: str, toy: str
) -> None:
    done = fetch.download(toy, tmp_path / "data", silently, mirror=mirror)
    assert [(f.part, f.state, f.files) for f in done] == [("images", "fetched", 2), ("lists", "fetched", 1)]
    assert (tmp_path / "data/toy/val/2.jpg").read_bytes() == b"two"
    assert {name for name in files(tmp_path / "data") if not name.startswith(".")} == {
        "toy/val/1.jpg",
        "toy/val/2.jpg",
        "toy/lists/list.txt",
    }
    assert not [name for name in files(tmp_path / "data") if name.endswith((".zip", ".tar", ".part"))]


def test_what_is_there_already_is_not_fetched_again(tmp_path: Path, mirror: str, toy: str) -> None:
    fetch.download(toy, tmp_path / "data", silently, mirror=mirror)
    asked = len(Quiet.asked)
    done = fetch.download(toy, tmp_path / "data", silently, mirror=mirror)
    assert [f.state for f in done] == ["there already"] * 2
    assert len(Quiet.asked) == asked
    assert [f.state for f in fetch.download(toy, tmp_path / "data", silently, mirror=mirror, force=True)] == [
        "fetched"
    ] * 2


def test_archives_are_kept_if_asked_for(tmp_path: Path, mirror: str, toy: str) -> None:
    fetch.download(toy, tmp_path / "data", silently, mirror=mirror, keep=True)
    kept = [name for name in files(tmp_path / "data") if name.endswith(("images.zip", "lists.tar"))]
    assert len(kept) == 2


def test_a_part_alone_may_come_from_any_address(tmp_path: Path, mirror: str, toy: str) -> None:
    (tmp_path / "served" / "images.zip").rename(tmp_path / "served" / "copy.zip")
    done = fetch.download(toy, tmp_path / "data", silently, parts=["images"], mirror=f"{mirror}copy.zip")
    assert [f.part for f in done] == ["images"]


def test_a_mirror_that_serves_something_else_is_refused_and_leaves_nothing_unpacked(
    tmp_path: Path, mirror: str, toy: str
) -> None:
    with zipfile.ZipFile(tmp_path / "served" / "images.zip", "w") as archive:
        archive.writestr("val/1.jpg", b"Eins")
        archive.writestr("val/2.jpg", b"zwo")
    with pytest.raises(DataError, match=r"images\.zip: expected"):
        fetch.download(toy, tmp_path / "data", silently, mirror=mirror)
    assert files(tmp_path / "data") == set()


def test_the_hash_option_stands_in_for_the_published_one(tmp_path: Path, mirror: str, toy: str) -> None:
    with pytest.raises(DataError, match="SHA256"):
        fetch.download(toy, tmp_path / "data", silently, parts=["images"], mirror=mirror, digest="sha256:" + "0" * 64)
    digest = "sha256:" + hashlib.sha256((tmp_path / "served" / "images.zip").read_bytes()).hexdigest()
    fetch.download(toy, tmp_path / "data", silently, parts=["images"], mirror=mirror, digest=digest)


def test_one_address_for_several_files_is_refused(tmp_path: Path, mirror: str, toy: str) -> None:
    with pytest.raises(UsageError, match="images, lists"):
        fetch.download(toy, tmp_path / "data", silently, mirror=f"{mirror}images.zip")


@pytest.mark.parametrize("digest", ["abc", "sha1:" + "0" * 40, "md5:" + "0" * 31, "sha256:"])
def test_a_hash_of_another_kind_or_length_is_refused(tmp_path: Path, mirror: str, toy: str, digest: str) -> None:
    with pytest.raises(UsageError, match="--hash"):
        fetch.download(toy, tmp_path / "data", silently, parts=["images"], mirror=mirror, digest=digest)


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    tmp_path: Path, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = Source((Archive("all", f"{mirror}all.zip", 10**18),), "")
    monkeypatch.setitem(catalogue.SOURCES, "huge", huge)
    with pytest.raises(DataError, match="GB of free space"):
        fetch.download("huge", tmp_path / "data", silently)
    assert Quiet.asked == []


def test_of_two_downloads_into_one_folder_the_later_is_refused_before_it_touches_anything(
    tmp_path: Path, mirror: str, toy: str
) -> None:
    refused = []

    def meanwhile(description: str) -> AbstractContextManager[Silent]:
        asked = len(Quiet.asked)
        with pytest.raises(DataError, match="another process is downloading"):
            fetch.download(toy, tmp_path / "data", silently, mirror=mirror)
        refused.append(len(Quiet.asked) == asked)
        return silently(description)

    assert len(fetch.download(toy, tmp_path / "data", meanwhile, mirror=mirror)) == 2
    assert refused == [True] * 4  # two files, each fetched and unpacked
    assert len(fetch.download(toy, tmp_path / "data", silently, mirror=mirror)) == 2


def test_the_command_prints_what_became_of_each_part(tmp_path: Path, mirror: str, toy: str) -> None:
    printed = fssbench("download", toy, "--to", tmp_path / "data", "--url", mirror, "--json")
    assert [entry["state"] for entry in json.loads(printed.out)] == ["fetched", "fetched"]
    assert "toy/val and toy/lists" in printed.err


def test_a_data_set_without_direct_address_says_where_to_get_it_and_how_it_must_look(tmp_path: Path) -> None:
    said = fssbench("download", "fss1000", "--to", tmp_path, status=2).err
    assert "https://github.com/HKUSTCV/FSS-1000" in said
    assert "1.jpg to 10.jpg" in said


def test_by_default_only_what_the_test_lists_need_is_fetched() -> None:
    assert [archive.part for archive in choose("coco20i", None)] == ["val2014", "annotations2014"]
    assert [archive.part for archive in choose("pascal5i", None)] == ["voc2012"]
    assert [archive.part for archive in choose("coco20i", ["train2014"])] == ["train2014"]


def test_published_addresses_carry_well_formed_hashes_and_distinct_names() -> None:
    archives = [archive for source in SOURCES.values() for archive in source.archives]
    assert len({archive.part for archive in archives}) == len(archives)
    for archive in archives:
        if archive.url is not None:
            if archive.part == "lvis_v1_val":  # its publishers print none
                assert archive.digest is None
                continue
            assert archive.digest is not None
            kind, _, value = archive.digest.partition(":")
            assert len(value) == 2 * hashlib.new(kind).digest_size
            int(value, 16)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/file", "/data/file.zip"])
def test_only_http_addresses_are_taken(url: str) -> None:
    with pytest.raises(UsageError, match="http://"):
        addressed("fss1000", Archive("fss1000", None), url)


@pytest.mark.parametrize(("name", "said"), [("pascal", "pascal5i"), ("shapes5i", "rendered")])
def test_what_cannot_be_downloaded_is_said(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        choose(name, None)


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="val2017"):
        choose("coco20i", ["val2071"])
