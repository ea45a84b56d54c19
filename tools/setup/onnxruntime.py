"""Fetch ONNX Runtime's shared library, pinned and checked, into a cache folder. Needs only Python 3 and pip.

Takes the PyPI wheel through pip (so a configured mirror is used): on Linux x86-64 the build with OpenVINO, elsewhere
the plain one. A second run does nothing and needs no network.
"""
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "1.24.1"
# (system, machine) → package, pip platform tag, sha256 of the wheel, library inside it
WHEELS = {
    ("Linux", "x86_64"): ("onnxruntime-openvino", "manylinux_2_28_x86_64",
                          "3007c803634cc69c6d52af1dea7ce729d9bb62b9a11070fd2f959119199007a8", "libonnxruntime.so." + VERSION),
    ("Linux", "aarch64"): ("onnxruntime", "manylinux_2_28_aarch64",
                           "86bc43e922b1f581b3de26a3dc402149c70e5542fceb5bec6b3a85542dbeb164", "libonnxruntime.so." + VERSION),
    ("Darwin", "arm64"): ("onnxruntime", "macosx_14_0_arm64",
                          "79b3119ab9f4f3817062e6dbe7f4a44937de93905e3a31ba34313d18cb49e7be", "libonnxruntime." + VERSION + ".dylib"),
}
SKIP = ("intel_gpu_plugin", "intel_npu_plugin", "pybind11")  # not used, 45 MB


def fail(text):
    sys.exit("onnxruntime: " + text)


def pip(args):
    """Runs pip; where Python has none, makes a virtual environment that has."""
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        python = sys.executable
    else:
        env = os.path.join(tempfile.gettempdir(), "dreamood-pip-%d" % os.getuid())
        made = subprocess.run([sys.executable, "-m", "venv", env], capture_output=True, text=True)
        if made.returncode != 0:
            fail("Python has neither pip nor venv; install one of them (Debian: apt-get install python3-pip)\n" + made.stdout + made.stderr)
        python = os.path.join(env, "bin", "python")
    done = subprocess.run([python, "-m", "pip", "--disable-pip-version-check"] + args, capture_output=True, text=True)
    if done.returncode != 0:
        fail("pip %s:\n%s\nIs a package index reachable? The library can also be put anywhere by hand: "
             "set DREAMOOD_ONNXRUNTIME to its path." % (" ".join(args), done.stderr[-1500:]))


def main():
    cache = sys.argv[1]
    key = (platform.system(), {"arm64": "aarch64", "AMD64": "x86_64"}.get(platform.machine(), platform.machine()))
    if key[0] == "Darwin":
        key = (key[0], platform.machine())
    if key not in WHEELS:
        fail("no pinned build for %s %s (have: %s); set DREAMOOD_ONNXRUNTIME to a library of version %s or newer"
             % (key + (", ".join(" ".join(k) for k in WHEELS), VERSION)))
    package, tag, digest, library = WHEELS[key]
    target = os.path.join(cache, VERSION + "-" + ("openvino" if "openvino" in package else "cpu"))
    if os.path.exists(os.path.join(target, ".complete")):
        return
    os.makedirs(cache, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as tmp:
        print("fetching %s %s …" % (package, VERSION), flush=True)
        pip(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--platform", tag, "--python-version", "3.11",
             "--implementation", "cp", "--dest", tmp, "%s==%s" % (package, VERSION)])
        (wheel,) = [f for f in os.listdir(tmp) if f.endswith(".whl")]
        with open(os.path.join(tmp, wheel), "rb") as f:
            got = hashlib.sha256(f.read()).hexdigest()
        if got != digest:
            fail("%s has sha256 %s, pinned is %s: not used" % (wheel, got, digest))
        out = os.path.join(tmp, "out")
        os.makedirs(out)
        with zipfile.ZipFile(os.path.join(tmp, wheel)) as z:
            for name in z.namelist():
                base = os.path.basename(name)
                if not name.startswith("onnxruntime/") or any(s in base for s in SKIP):
                    continue
                if ".so" in base or base.endswith(".dylib") or base in ("LICENSE", "ThirdPartyNotices.txt"):
                    with z.open(name) as src, open(os.path.join(out, base), "wb") as dst:
                        shutil.copyfileobj(src, dst)
        if not os.path.exists(os.path.join(out, library)):
            fail("%s holds no %s" % (wheel, library))
        open(os.path.join(out, ".complete"), "w").close()
        shutil.rmtree(target, ignore_errors=True)
        os.replace(out, target)
    print("ONNX Runtime %s is in %s" % (VERSION, target))


if __name__ == "__main__":
    main()
