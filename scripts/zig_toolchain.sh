# Sourced with a virtual environment active, on a machine without a C++ compiler: installs the one
# in the ziglang wheel from PyPI and points CC, CXX, AR and RANLIB at it for this shell.
# Returns 1 with a line on stderr when no environment is active or the wheel cannot be had.

zig_toolchain() {
    if [ -z "${VIRTUAL_ENV:-}" ]; then
        echo "error: zig_toolchain.sh needs an active virtual environment" >&2
        return 1
    fi
    "$VIRTUAL_ENV/bin/python" -c 'import ziglang' 2>/dev/null ||
        "$VIRTUAL_ENV/bin/python" -m pip install --quiet --disable-pip-version-check ziglang || return 1
    zig_tools="$VIRTUAL_ENV/zig-tools"
    mkdir -p "$zig_tools" || return 1
    zig=$("$VIRTUAL_ENV/bin/python" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).parent / "zig")') || return 1
    # Build systems want one command without arguments for each tool. The program itself is named:
    # inside pip's isolated build, python does not find the module ziglang.
    for tool in cc c++ ar ranlib; do
        printf '#!/bin/sh\nexec "%s" %s "$@"\n' "$zig" "$tool" \
            > "$zig_tools/zig-$tool" && chmod +x "$zig_tools/zig-$tool" || return 1
    done
    export CC="$zig_tools/zig-cc" CXX="$zig_tools/zig-c++"
    export AR="$zig_tools/zig-ar" RANLIB="$zig_tools/zig-ranlib"
}

zig_toolchain
