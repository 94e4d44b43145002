"""`harness doctor`: a sound installation passes; each thing that can break is found and has its remedy."""

import socket
import subprocess
import sys
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from harness import doctor
from harness.doctor import Check, Fault, checks

Usage = namedtuple("Usage", "total used free")


def by_name(found: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in found}


def no_such_version(name: str) -> str:
    raise PackageNotFoundError(name)


def test_this_installation_is_sound(empty_home, tmp_path):
    found = checks(results=tmp_path / "results")
    assert [check for check in found if not check.ok] == []
    assert {"python", "packages", "shadowing", "torchaudio", "audio files", "espeak", "cuda"} <= set(by_name(found))
    assert all(check.detail and not check.remedy for check in found)


def test_checking_leaves_nothing_behind(empty_home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checks()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["home"]


def test_names_are_distinct():
    found = checks()
    assert len(by_name(found)) == len(found)


def test_a_failing_check_stops_no_other_and_says_what_to_do(monkeypatch, tmp_path):
    def broken() -> str:
        raise OSError("libsndfile is gone")

    monkeypatch.setattr(doctor, "_audio_files", broken)
    found = checks(results=tmp_path)
    assert by_name(found)["audio files"] == Check(
        "audio files", False, "OSError: libsndfile is gone", "Reinstall: pip install --force-reinstall soundfile"
    )
    assert by_name(found)["espeak"].ok


def test_a_python_that_is_too_old_is_named(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 1, "final", 0))
    with pytest.raises(Fault, match=r"Python 3\.9\.1, but the harness needs >=3\.11"):
        doctor._python()


def test_a_package_of_another_version_is_named_with_what_is_asked_for(monkeypatch):
    monkeypatch.setattr("harness.doctor.installed_version", lambda name: "2.9.0" if name == "mlflow" else version(name))
    with pytest.raises(Fault, match=r"^mlflow 2\.9\.0 where mlflow<4,>=3\.17 is asked for$"):
        doctor._packages()


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("harness.doctor.installed_version", no_such_version)
    with pytest.raises(Fault, match="no sentencepiece where sentencepiece"):
        doctor._packages()


def test_a_local_build_of_the_version_asked_for_fits(monkeypatch):
    monkeypatch.setattr("harness.doctor.installed_version", lambda name: "2.11.0+cu130")
    assert doctor._mismatch("torch", "==2.11.0") == ""


def test_torch_and_torchaudio_of_different_releases_are_refused(monkeypatch):
    monkeypatch.setattr("harness.doctor.installed_version", {"torch": "2.13.0+cpu", "torchaudio": "2.11.0"}.__getitem__)
    with pytest.raises(Fault, match=r"torch 2\.13\.0\+cpu with torchaudio 2\.11\.0") as fault:
        doctor._torch_pair()
    assert fault.value.remedy == "Install the pair: pip install torch==2.13.0 torchaudio==2.13.0"


def test_builds_of_one_release_are_a_pair(monkeypatch):
    monkeypatch.setattr("harness.doctor.installed_version", {"torch": "2.11.0+cpu", "torchaudio": "2.11.0"}.__getitem__)
    assert doctor._torch_pair() == "torch 2.11.0+cpu, torchaudio 2.11.0"


def test_state_that_cannot_be_written_is_found(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("a file, where the folder should be")
    monkeypatch.setenv("HARNESS_HOME", str(tmp_path / "file" / "home"))
    check = by_name(checks(results=tmp_path / "file" / "results"))["state folder"]
    assert not check.ok
    assert check.remedy.startswith("Make the folder writable, or set HARNESS_HOME to another one")


def test_a_full_disk_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10 << 30, 9 << 30, 1 << 30))
    with pytest.raises(Fault, match=r"^1\.0 GiB free for .*needs 2$"):
        doctor._disk(tmp_path / "not" / "yet" / "there")


def test_more_threads_than_cores_are_found(monkeypatch):
    monkeypatch.setattr(doctor, "_num_cores", lambda: 0)
    with pytest.raises(Fault, match=r"threads on 0 cores") as fault:
        doctor._threads()
    assert fault.value.remedy == "Set OMP_NUM_THREADS=0."


def test_a_driver_without_a_device_is_found(monkeypatch, tmp_path):
    driver = tmp_path / "version"
    driver.touch()
    monkeypatch.setattr(doctor, "NVIDIA_DRIVER", driver)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(Fault, match="NVIDIA driver, but torch finds no device"):
        doctor._cuda()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert doctor._cuda() == "no device; runs on the CPU"


@pytest.mark.gpu
def test_devices_are_named():
    assert doctor._cuda().startswith("cuda:0 ")


def test_another_package_called_harness_is_found(monkeypatch):
    monkeypatch.setattr(
        "harness.doctor.packages_distributions", lambda: {"harness": ["sutlm-harness", "webdriver-kit"]}
    )
    with pytest.raises(Fault, match="webdriver-kit also installs a package called harness") as fault:
        doctor._shadowing()
    assert fault.value.remedy == "Uninstall it: pip uninstall webdriver-kit"


def test_a_copy_that_pip_did_not_install_is_found(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_root", lambda _: tmp_path)
    with pytest.raises(Fault, match="but pip installed it in"):
        doctor._shadowing()


def test_a_source_tree_that_is_not_installed_is_found(tmp_path):
    tree = Path(doctor.__file__).parent.parent
    with pytest.raises(Fault, match=r"has no harness\.recipes: a source tree that is not installed") as fault:
        doctor._check_folder("recipes", tree / "harness")
    assert fault.value.remedy.endswith(f"pip install -e {tree}")


@pytest.mark.parametrize("name", ["harness.py", "harness/__init__.py"])
def test_a_harness_in_the_current_folder_is_found(monkeypatch, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Fault, match=r"the current folder has a harness(\.py)? of its own"):
        doctor._shadowing()


def test_folders_called_tasks_and_models_do_no_harm(tmp_path):
    for name in ("tasks", "models", "sweeps"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('imported the wrong package')")
    code = "from harness import doctor; import harness.tasks, harness.models; print(doctor._shadowing())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip().removeprefix("harness comes from ")) == Path(doctor.__file__).parent


def test_the_default_store_is_a_file_in_the_state_folder(empty_home, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert doctor._mlflow_store() == f"{empty_home / 'mlflow'} can be made"


def test_a_tracking_server_is_knocked_at(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{port}")
        assert doctor._mlflow_store() == f"127.0.0.1:{port} answers"
    check = doctor._run(doctor._Probe("mlflow store", doctor._mlflow_store, "Check tracking.uri."))
    assert (check.ok, check.remedy) == (False, "Check tracking.uri.")
    assert "refused" in check.detail
    assert "secret" not in check.detail


def test_a_database_is_knocked_at_on_its_usual_port(monkeypatch):
    asked = []

    def connect(address, timeout):
        asked.append(address)
        raise TimeoutError("timed out")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql+psycopg://user:secret@database.example/runs")
    monkeypatch.setattr("socket.create_connection", connect)
    with pytest.raises(TimeoutError):
        doctor._mlflow_store()
    assert asked == [("database.example", 5432)]
