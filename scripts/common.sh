# Shared by the scripts: the server's environment in .venv, a Blender host in .blender/VERSION. Sourced, not run.
# Each step is skipped when its marker says that it was done with the same inputs, so a second run starts at once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
export PYTHONUNBUFFERED=1

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf '\033[1;31m%s\033[0m\n' "$1" >&2; shift; printf '    %s\n' "$@" >&2; exit 1; }

# The first of the named interpreters that can make environments, on the PATH or among those that pyenv keeps.
find_python() {
    local name candidate
    for name in "$@"; do
        for candidate in "$(command -v "$name")" "${PYENV_ROOT:-$HOME/.pyenv}/versions/${name#python}".*/bin/"$name"; do
            if [ -x "$candidate" ] && "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
                echo "$candidate"; return
            fi
        done
    done
    return 1
}

# What the files given as arguments contain, as one number: the marker of a step.
fingerprint() { cat "$@" | cksum | cut -d' ' -f1; }

server_env() {  # server_env [EXTRA…]: at least these; the marker says which are installed, and from which files
    local python mark have extra extras="" missing=""
    mark=$(fingerprint pyproject.toml constraints.txt)
    have=" $(cat .venv/.paintover 2>/dev/null || true) "
    [[ $have == " $mark "* ]] || missing=1
    for extra in "$@"; do
        [[ $have == *" $extra "* ]] || missing=1
        extras+="$extra,"
    done
    [ -z "$missing" ] && return
    python=$(find_python python3.11 python3.12 python3.13) || {
        debian_packages python3 python3-venv
        python=$(find_python python3.11 python3.12 python3.13) ||
            fail "No Python 3.11 or newer with venv was found." "Install one (on Debian: apt-get install python3-venv)."
    }
    say "Setting up the server's environment in .venv ($("$python" --version)); the first time takes a few minutes"
    [ -x .venv/bin/python ] || "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".${extras:+[${extras%,}]}"
    printf '%s' "$mark $*" > .venv/.paintover
}

bpy_packages="libx11-6 libxrender1 libxxf86vm1 libxfixes3 libxi6 libxkbcommon0 libsm6 libgl1 libegl1 libgomp1"

debian_packages() {  # debian_packages NAME…: install what is missing, or say how
    command -v dpkg-query >/dev/null || return 0
    local missing="" package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=" $package"
    done
    [ -z "$missing" ] && return
    if [ "$(id -u)" = 0 ]; then
        say "Installing Debian packages:$missing"
        apt-get update -qq
        # shellcheck disable=SC2086
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    else
        fail "Debian packages are missing. Run this, then start again:" \
            "sudo apt-get install$missing"
    fi
}

# controlnet_aux and what it needs besides. Apart from the server's environment: transformers, too, would take the
# torchvision that it finds, and a torchvision of another build than torch can be imported by tests only.
detectors=.build/detectors
detector_packages="controlnet-aux torchvision opencv-python-headless scikit-image timm einops lazy-loader imageio tifffile"

detectors_env() {
    local mark
    mark=$(fingerprint constraints.txt)
    [ "$(cat $detectors/.paintover 2>/dev/null || true)" = "$mark" ] && return
    say "Fetching the detectors that hints are compared with"
    rm -rf $detectors
    # shellcheck disable=SC2086
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target $detectors \
        -c constraints.txt $detector_packages
    printf '%s' "$mark" > $detectors/.paintover
}

# Programs of others that tests talk to, where they are at hand or can be installed.
peer_packages="liblo-tools puredata-core ffmpeg chromium chromium-driver"

optional_packages() {  # optional_packages NAME…: install what is missing as root; as somebody else, say what is not there
    local missing="" package
    command -v dpkg-query >/dev/null || return 0
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=" $package"
    done
    [ -z "$missing" ] && return
    if [ "$(id -u)" = 0 ]; then
        # shellcheck disable=SC2086
        (debian_packages $missing) && return
    fi
    say "NOT INSTALLED:$missing. Tests that need them are skipped."
}

# Every Blender that Paintover supports, as a Python module, and the interpreter that it needs.
blender_release() {
    case $1 in
        4.2) echo "bpy==4.2.23 python3.11";;
        4.5) echo "bpy==4.5.15 python3.11";;
        5.0) echo "bpy==5.0.1 python3.11";;
        5.2) echo "bpy==5.2.3 python3.13";;
    esac
}

blender_host() {  # blender_host VERSION: sets $blender_python; fails where the interpreter for it is missing
    local version=$1 requirement interpreter python
    read -r requirement interpreter <<< "$(blender_release "$version")"
    python=$(find_python "$interpreter") || return 1
    # shellcheck disable=SC2086
    debian_packages $bpy_packages
    blender_python=$root/.blender/$version/bin/python
    [ "$(cat ".blender/$version/.paintover" 2>/dev/null)" = "$requirement" ] && return
    say "Installing Blender $version as a Python module in .blender/$version (about 1 GB)"
    [ -x "$blender_python" ] || "$python" -m venv ".blender/$version"
    # No constraints.txt here: Blender brings its own numpy.
    "$blender_python" -m pip install --quiet --disable-pip-version-check "$requirement" \
        pytest==9.2.0 pytest-asyncio==1.5.0 pytest-timeout==2.4.0 ||
        fail "Blender $version could not be installed."  # where this is called, bash does not stop by itself
    printf '%s' "$requirement" > ".blender/$version/.paintover"
}

blender_env() {  # the Blender for development and the demo: 4.5, or 5.2 where only Python 3.13 is at hand
    if find_python python3.11 >/dev/null; then blender_host 4.5
    elif find_python python3.13 >/dev/null; then blender_host 5.2
    else
        fail "Blender as a Python module needs Python 3.11 or 3.13, and neither was found." \
            "Install one, or name an installed Blender: scripts/demo --blender /path/to/blender"
    fi
}

window_packages="blender xvfb libgl1-mesa-dri libegl1 libgl1 python3-numpy imagemagick xdotool"

# Debian's Blender 4.3 with a window, and a screen in memory to show it on: a Debian of its own in .blender/window.
# Sets $blender_window to that folder, or $no_blender_window to why there is none.
window_env() {
    local folder=$root/.blender/window
    blender_window="" no_blender_window=""
    if [ "$(id -u)" != 0 ]; then
        no_blender_window="making a Debian for it in .blender/window needs root"
    elif ! unshare --mount --pid --fork true 2>/dev/null; then
        no_blender_window="this machine does not allow mounts of one's own (unshare --mount)"
    elif [ "$(cat "$folder/.paintover" 2>/dev/null)" = "$window_packages" ]; then
        blender_window=$folder
    else
        _make_window && blender_window=$folder
    fi
    [ -z "$no_blender_window" ] || say "NO WINDOWED BLENDER: $no_blender_window. Tests that need it are skipped."
}

_make_window() {
    local log=$root/.build/window.log new=$root/.blender/window.new
    command -v apt-get >/dev/null || { no_blender_window="this is no Debian"; return 1; }
    debian_packages debootstrap
    say "Installing Debian's Blender with a window in .blender/window (about 1.5 GB; some minutes)"
    mkdir -p .build .blender
    rm -rf --one-file-system "$new" "$root/.blender/window"
    # shellcheck disable=SC2086
    if debootstrap --variant=minbase trixie "$new" >"$log" 2>&1 &&
        in_window "$new" apt-get install -y --no-install-recommends $window_packages >>"$log" 2>&1; then
        in_window "$new" apt-get clean
        printf '%s' "$window_packages" > "$new/.paintover"
        mv "$new" "$root/.blender/window"
    else
        no_blender_window="its installation failed ($(tail -n 1 "$log"); all of it in .build/window.log)"
        return 1
    fi
}

in_window() {  # in_window FOLDER COMMAND…: run inside, with mounts that end with the command
    local folder=$1; shift
    # shellcheck disable=SC2016
    DEBIAN_FRONTEND=noninteractive unshare --mount --pid --fork --kill-child --propagation private sh -ec \
        'mount -t proc proc "$0/proc"; mount -t tmpfs tmpfs "$0/dev/shm"; exec chroot "$0" "$@"' "$folder" "$@"
}
