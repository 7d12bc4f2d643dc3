"""Transfers that break, servers that misbehave, and archives that mean harm."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fssbench.download.archives import unpack
from fssbench.download.transfer import Wanted, fetch
from fssbench.errors import DataError

CONTENT = bytes(range(256)) * 5000  # 1.28 MB
SHA = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT. `cuts` says after how many bytes each answer breaks off; None: it does not."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.cuts: list[int | None] = []
        self.ranges = True
        self.statuses: list[int] = []
        self.shift = 0  # how far a range starts from where it was asked to
        self.lengths = True  # whether answers say how long they are
        self.asked: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/file.bin"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        status = self.statuses.pop(0) if self.statuses else 0
        if status:
            request.send_error(status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and self.ranges else 0  # type: ignore[index]
        if start and start >= len(self.content):
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        body = self.content[start:]
        if start:
            first = start + self.shift
            request.send_header("Content-Range", f"bytes {first}-{len(self.content) - 1}/{len(self.content)}")
        if self.lengths:
            request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        cut = self.cuts.pop(0) if self.cuts else None
        request.wfile.write(body[:cut])
        request.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def get(server: Server, folder: Path, wanted: Wanted | None = None, attempts: int = 3) -> Path:
    target = folder / "file.bin"
    fetch(server.url, target, wanted or Wanted(len(CONTENT), SHA), attempts=attempts, pause=0)
    return target


def test_a_transfer_that_is_cut_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [300_000, 500_000]
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[0] is None
    starts = [int(asked.split("=")[1].strip("-")) for asked in server.asked[1:] if asked]
    assert len(starts) == 2
    assert 0 < starts[0] <= 300_000 < starts[1] <= 800_000


def test_many_cuts_are_fine_as_long_as_each_answer_brings_something(server: Server, tmp_path: Path) -> None:
    server.cuts = [100_000] * 12
    assert get(server, tmp_path, attempts=2).read_bytes() == CONTENT


def test_a_second_call_goes_on_from_what_the_first_one_kept(server: Server, tmp_path: Path) -> None:
    server.cuts = [400_000, 0, 0, 0]
    with pytest.raises(DataError, match=r"are kept\. The same command goes on"):
        get(server, tmp_path)
    kept = (tmp_path / "file.bin.part").stat().st_size
    assert kept > 0
    assert not (tmp_path / "file.bin").exists()
    server.asked.clear()
    server.cuts.clear()
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={kept}-"]


def test_a_server_that_knows_no_ranges_sends_everything_again(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.cuts = [400_000]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_range_that_starts_elsewhere_is_not_stitched_in(server: Server, tmp_path: Path) -> None:
    server.cuts, server.shift = [400_000], 7
    with pytest.raises(DataError, match=r"not \d+ as asked"):
        get(server, tmp_path)
    assert not (tmp_path / "file.bin").exists()


def test_an_answer_without_length_that_ends_early_is_caught_by_its_size(server: Server, tmp_path: Path) -> None:
    server.lengths = False
    server.cuts = [1000]
    with pytest.raises(DataError, match=f"expected {len(CONTENT)} bytes, found 1000"):
        get(server, tmp_path)


def test_a_wrong_hash_is_refused_and_the_file_removed(server: Server, tmp_path: Path) -> None:
    server.content = b"x" + CONTENT[1:]
    with pytest.raises(DataError, match=r"expected SHA256 .*--url"):
        get(server, tmp_path)
    assert list(tmp_path.iterdir()) == []
    server.content = CONTENT
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_wrong_md5_is_refused(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MD5"):
        get(server, tmp_path, Wanted(None, "md5:" + "0" * 32))


def test_a_part_of_another_file_is_found_out_by_the_hash(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(b"another file" * 100)
    with pytest.raises(DataError, match="SHA256"):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_complete_already_is_only_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked == []


def test_a_part_longer_than_the_file_is_fetched_anew_where_the_size_is_not_known(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"more")
    assert get(server, tmp_path, Wanted(None, SHA)).read_bytes() == CONTENT


def test_a_missing_file_is_refused_at_once_with_its_address(server: Server, tmp_path: Path) -> None:
    server.statuses = [404]
    with pytest.raises(DataError, match=r"file\.bin: expected the file, found HTTP status 404"):
        get(server, tmp_path)
    assert len(server.asked) == 1


def test_a_server_that_is_busy_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.statuses = [503, 500]
    assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_named(tmp_path: Path, server: Server) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(DataError, match=re.escape(server.url)):
        get(server, tmp_path)


# Archives


def make_zip(path: Path, entries: dict[str, bytes], edit: Callable[[zipfile.ZipInfo], None] = lambda _: None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100644 << 16
            edit(info)
            archive.writestr(info, content)
    return path


def make_tar(path: Path, members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


EVIL_NAMES = [
    "../outside.txt",
    "a/../../outside.txt",
    "/tmp/fssbench-outside.txt",
    "a/..",
    "..\\outside.txt",
    "C:/outside.txt",
]


@pytest.mark.parametrize("name", EVIL_NAMES)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_path_that_leads_out_is_refused_and_nothing_is_left(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"evil.{kind}"
    if kind == "zip":
        make_zip(archive, {"good.txt": b"1", name: b"2"})
    else:
        make_tar(archive, [(member("good.txt"), b"1"), (member(name), b"2")])
    with pytest.raises(DataError, match="leads out of the folder"):
        unpack(archive, tmp_path / "into" / "deep")
    assert everything(tmp_path) == {archive.name, "into", "into/deep"}


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "", "...", "a\\b", "~"]), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_whatever_an_entry_is_called_it_lands_inside_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, parts: list[str]
) -> None:
    base = tmp_path_factory.mktemp("names")
    archive = make_tar(base / "x.tar", [(member("/".join(parts)), b"2")])
    try:
        unpack(archive, base / "into")
    except DataError:
        assert everything(base) == {"x.tar", "into"}
    else:
        outside = {name for name in everything(base) if not name.startswith("into")}
        assert outside == {"x.tar"}


@pytest.mark.parametrize(
    "info",
    [
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("link", tarfile.SYMTYPE, "good.txt"),
        member("link", tarfile.LNKTYPE, "good.txt"),
        member("device", tarfile.CHRTYPE),
        member("block", tarfile.BLKTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda info: f"{info.name}-{info.type.decode()}",
)
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, info: tarfile.TarInfo) -> None:
    archive = make_tar(tmp_path / "x.tar", [(member("good.txt"), b"1"), (info, b"")])
    with pytest.raises(DataError, match="a link, device"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == set()


def test_links_in_a_zip_are_refused(tmp_path: Path) -> None:
    def as_link(info: zipfile.ZipInfo) -> None:
        info.external_attr = 0o120777 << 16

    archive = make_zip(tmp_path / "x.zip", {"link": b"/etc/passwd"}, as_link)
    with pytest.raises(DataError, match="a link, device"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == set()


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = make_tar(tmp_path / "x.tar", [(member("a.txt"), b"1"), (member("./a.txt"), b"2")])
    with pytest.raises(DataError, match="second entry"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == set()


def test_an_archive_that_does_not_fit_on_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a.bin": b"1" * 400, "b.bin": b"1" * 400})
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=500))
    with pytest.raises(DataError, match="do not fit on the disk"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == set()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_truncated_tar_is_refused_and_nothing_is_left(tmp_path: Path, mode: str, share: float) -> None:
    content = hashlib.sha256(b"").digest() * 2000
    archive = make_tar(tmp_path / "x.tar", [(member(f"{i}.bin"), content) for i in range(4)], mode)
    whole = archive.read_bytes()
    size = len(whole) if mode == "w:gz" else 4 * (512 + len(content))  # a plain tar ends in padding
    archive.write_bytes(whole[: int(size * share)])
    with pytest.raises(DataError, match=r"x\.tar"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == set()


def test_a_flipped_bit_in_a_zip_is_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a.bin": b"abc" * 1000})
    data = bytearray(archive.read_bytes())
    data[1000] ^= 4
    archive.write_bytes(bytes(data))
    with pytest.raises(DataError, match="damaged"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == set()


def test_something_that_is_no_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"<html>Not found</html>" * 100)
    with pytest.raises(DataError, match=r"x\.zip: expected a tar or zip"):
        unpack(tmp_path / "x.zip", tmp_path / "into")


def test_a_file_of_the_users_is_never_overwritten(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a/one.txt": b"from the archive", "a/two.txt": b"2"})
    (tmp_path / "into" / "a").mkdir(parents=True)
    (tmp_path / "into" / "a" / "one.txt").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"one\.txt exists and differs"):
        unpack(archive, tmp_path / "into")
    assert everything(tmp_path / "into") == {"a", "a/one.txt"}
    assert (tmp_path / "into" / "a" / "one.txt").read_bytes() == b"mine"


def test_what_a_killed_call_left_is_cleared_away(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "x.zip", {"a.txt": b"1"})
    (tmp_path / "into" / ".unpacking-x.zip").mkdir(parents=True)
    (tmp_path / "into" / ".unpacking-x.zip" / "half.txt").write_bytes(b"")
    assert unpack(archive, tmp_path / "into") == 1
    assert everything(tmp_path / "into") == {"a.txt"}
