# Sourced by quickstart.sh and run_tests.sh from the project's root: makes .venv with everything in
# it, builds the CPU kernel, and leaves the environment active.
# Argument: the requirements file to install. Asks nothing; the second run takes a second.

requirements=$1

fail() { echo "error: $*" >&2; exit 2; }

command -v "${PYTHON:-python3}" >/dev/null || fail "python3 is not on the PATH: install Python 3.11 or newer, or name it: PYTHON=/path/to/python3 bash $0"
"${PYTHON:-python3}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "$("${PYTHON:-python3}" --version) is too old: install Python 3.11 or newer, or name it: PYTHON=/path/to/python3 bash $0"
[ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv ||
    fail "python3 cannot make virtual environments: install its venv module (Debian: apt install python3-venv)"
. .venv/bin/activate

# What is installed is remembered by content, so that a pull that changes the kernel rebuilds it.
packages_now=$(cat requirements*.txt | cksum)
kernel_now=$(cat pyproject.toml CMakeLists.txt $(git ls-files gaussian_renderer/cpu 2>/dev/null || find gaussian_renderer/cpu -type f -name '*.[ch]*') | cksum)

if [ "$(cat .venv/packages-"$requirements" 2>/dev/null)" != "$packages_now" ]; then
    echo "installing the packages of $requirements into .venv (the first time takes minutes) ..."
    pip install --quiet --disable-pip-version-check -r "$requirements" || fail "pip could not install $requirements: see above"
    echo "$packages_now" > .venv/packages-"$requirements"
fi
if [ "$(cat .venv/kernel 2>/dev/null)" != "$kernel_now" ]; then
    echo "building the CPU kernel ..."
    if ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
        echo "no C++ compiler on the PATH: fetching one from PyPI (ziglang)"
        . scripts/zig_toolchain.sh || fail "the compiler from PyPI could not be set up: see above"
    fi
    pip install --quiet --disable-pip-version-check . || fail "the CPU kernel did not build: see above"
    echo "$kernel_now" > .venv/kernel
fi
