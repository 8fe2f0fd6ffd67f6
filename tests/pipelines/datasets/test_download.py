import functools
import http.server
import io
import socket
import tarfile
import threading
import zipfile

import pytest
from c2al_pipelines.datasets import census, movielens
from c2al_pipelines.datasets.download import download, download_members, unpack


@pytest.fixture
def closed_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        yield unused.getsockname()[1]


@pytest.fixture
def site(tmp_path):
    """A folder and the address under which it is served."""
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if not self.path.endswith("torn.zip"):
                return super().do_GET()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"only this")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield folder, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _write_archive(path):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        info = tarfile.TarInfo("data/inner.data")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"inner"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/outer.dat", "outer")
        archive.writestr("inner.tar.gz", inner.getvalue())


def test_members_are_fetched_once(site, tmp_path):
    folder, address = site
    _write_archive(folder / "a+b.zip")
    target = tmp_path / "cache"
    download_members(f"{address}/a+b.zip", ["outer.dat", "inner.data"], target)
    assert (target / "outer.dat").read_text() == "outer"
    assert (target / "inner.data").read_text() == "inner"
    (folder / "a+b.zip").unlink()
    download_members(f"{address}/a+b.zip", ["outer.dat", "inner.data"], target)


def test_archive_put_in_place_by_hand_is_used(tmp_path, closed_port):
    _write_archive(tmp_path / "a.zip")
    download_members(f"http://127.0.0.1:{closed_port}/a.zip", ["inner.data"], tmp_path)
    assert (tmp_path / "inner.data").read_text() == "inner"


def test_without_network_the_message_says_what_to_do(tmp_path, closed_port):
    url = f"http://127.0.0.1:{closed_port}/set.zip"
    with pytest.raises(ConnectionError) as error:
        download(url, tmp_path)
    for part in (url, "fetch that address on another machine", str(tmp_path / "set.zip"), "run the same command again"):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dataset", [census, movielens])
def test_data_sets_without_network(dataset, tmp_path, closed_port, monkeypatch, capsys):
    monkeypatch.setattr(dataset, "URL", f"http://127.0.0.1:{closed_port}/set.zip")
    with pytest.raises(ConnectionError, match=rf"127.0.0.1:{closed_port}/set.zip.*{tmp_path}"):
        dataset.open_source(cache=tmp_path)
    if dataset is movielens:
        assert "may be used for research" in capsys.readouterr().err


def test_broken_connection_leaves_nothing(site, tmp_path):
    _, address = site
    target = tmp_path / "cache"
    with pytest.raises(ConnectionError, match="after 9 of 1,000 bytes"):
        download(f"{address}/torn.zip", target)
    assert list(target.iterdir()) == []


def test_absent_on_the_site(site, tmp_path):
    _, address = site
    with pytest.raises(ConnectionError, match="404"):
        download(f"{address}/none.zip", tmp_path)


def test_damaged_archive(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(b"not an archive")
    with pytest.raises(ValueError, match=r"a\.zip: not a whole archive.*Remove it"):
        unpack(path, ["x"], tmp_path)


def test_archive_without_a_member(tmp_path):
    _write_archive(tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"a\.zip: must contain \['x'\]. Received: .*inner\.data.*outer\.dat"):
        unpack(tmp_path / "a.zip", ["x"], tmp_path)
