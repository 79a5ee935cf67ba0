# Sourced by run_tests.sh --sanitize, with the environment active: builds the CPU kernel with
# AddressSanitizer and UBSan into build/sanitize, and runs the native tests and the cloud fuzzer with
# each instruction set that this processor has. Argument: cases for the fuzzer (default: 500).

cases=${1:-500}
folder=build/sanitize
asan=$("${CXX:-g++}" -print-file-name=libasan.so) || fail "the sanitizers need g++: install it"
[ -e "$asan" ] || fail "the sanitizers need libasan beside ${CXX:-g++} (Debian: apt install libgcc-12-dev, or that of your g++)"
echo "building the CPU kernel with sanitizers ..."
rm -rf "$folder"
pip install --quiet --disable-pip-version-check --no-deps --target "$folder" \
    -C cmake.define.SPLATPOSE_SANITIZE=ON -C install.strip=false . || fail "the kernel did not build: see above"

# libstdc++ too, since the sanitizer looks for what throws exceptions when it starts. Python itself
# and PyTorch leak on purpose.
sanitized() {
    LD_PRELOAD="$asan $("${CXX:-g++}" -print-file-name=libstdc++.so.6)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=1 \
    PYTHONPATH="$PWD/$folder" SPLATPOSE_ISA=$isa "$@"
}
for isa in generic v3 v4; do
    if ! sanitized python -c 'from gaussian_renderer.cpu import instruction_set; instruction_set()' 2>/dev/null; then
        echo "$isa: this processor cannot run it, skipped"
        continue
    fi
    echo "$isa:"
    sanitized python -m pytest -q tests/test_cpu_*.py
    sanitized python -m tests.fuzz clouds --cases "$cases"
done
