#!/bin/sh
# Installs Shadowrig as systemd services. Safe to run again: what is in place already is left alone, and a
# configuration that exists is never overwritten.
#
#   sudo deploy/install.sh                 the vehicle: runtime, recorder, uploader
#   sudo deploy/install.sh --receiver      the fleet side: receiver
#   deploy/install.sh --dry-run            say what would be done
#   deploy/install.sh --root DIR           put the files below DIR (an image, a package); runs nothing
set -eu

role=vehicle
prefix=/opt/shadowrig
root=
dry_run=no
python=python3
source_directory=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0"
    echo "options: --receiver  --prefix DIR (default /opt/shadowrig)  --root DIR  --python COMMAND  --dry-run  --help"
}

fail() {
    echo "install.sh: $1" >&2
    exit "${2:-1}"
}

while [ $# -gt 0 ]; do
    case $1 in
        --receiver) role=receiver ;;
        --dry-run) dry_run=yes ;;
        --prefix | --root | --python)
            [ $# -ge 2 ] || fail "$1 needs a value" 2
            case $1 in
                --prefix) prefix=${2%/} ;;
                --root) root=${2%/} ;;
                --python) python=$2 ;;
            esac
            shift
            ;;
        --help | -h)
            usage
            exit 0
            ;;
        *) fail "unknown option '$1' (try --help)" 2 ;;
    esac
    shift
done
case $prefix in
    /*) ;;
    *) fail "--prefix must be an absolute path, not '$prefix'" 2 ;;
esac
case $prefix in
    *[!A-Za-z0-9_./-]*) fail "--prefix may hold letters, digits and _ . / - only, not '$prefix'" 2 ;;
esac

run() {
    echo "  $*"
    [ "$dry_run" = yes ] || "$@"
}

# put MODE SOURCE TARGET: installs a file, with the prefix in place, unless it is there already in just this form.
put() {
    target=$root$3
    rendered=$(mktemp)
    sed -e "s#/opt/shadowrig#$prefix#g" "$2" > "$rendered"
    if [ -f "$target" ] && cmp -s "$rendered" "$target"; then
        echo "  unchanged  $target"
    elif [ "$dry_run" = yes ]; then
        echo "  would write  $target"
    else
        install -D -m "$1" "$rendered" "$target"
        echo "  wrote  $target"
    fi
    rm -f "$rendered"
}

# put_configuration SOURCE TARGET [SED]: only where there is none; people edit these.
put_configuration() {
    if [ -e "$root$2" ]; then
        echo "  kept  $root$2"
        return
    fi
    edited=$(mktemp)
    sed -e "${3:-}" "$1" > "$edited"
    put 0644 "$edited" "$2"
    rm -f "$edited"
}

install_software() {
    echo "Software in $prefix/.venv"
    if [ -n "$root" ]; then
        echo "  skipped: a virtual environment cannot be moved; install it in the image with"
        echo "  python3 -m venv $prefix/.venv && $prefix/.venv/bin/pip install -c constraints.txt ."
        return
    fi
    run "$python" -m venv "$prefix/.venv"
    run "$prefix/.venv/bin/python" -m pip install --quiet --constraint "$source_directory/constraints.txt" \
        "$source_directory"
}

install_vehicle_files() {
    for unit in shadowrig.target shadowrig.slice shadowrig-runtime.service shadowrig-recorder.service \
        shadowrig-uploader.service; do
        put 0644 "$units/$unit" "/etc/systemd/system/$unit"
    done
    put 0644 "$units/shadowrig.sysusers" /etc/sysusers.d/shadowrig.conf
    put 0644 "$units/shadowrig.tmpfiles" /etc/tmpfiles.d/shadowrig.conf
    if [ -e /etc/nv_tegra_release ] && [ -z "$root" ]; then
        put 0644 "$units/shadowrig-jetson.conf" /etc/systemd/system/shadowrig-runtime.service.d/jetson.conf
    fi
    put_configuration "$source_directory/deploy/rig.example.yaml" /etc/shadowrig/rig.yaml
}

install_receiver_files() {
    put 0644 "$units/shadowrig-receiver.service" /etc/systemd/system/shadowrig-receiver.service
    put 0644 "$units/shadowrig-receiver.sysusers" /etc/sysusers.d/shadowrig-receiver.conf
    put_configuration "$source_directory/deploy/receiver.example.yaml" /etc/shadowrig/receiver.yaml \
        's#^directory: [^ ]*#directory: /var/lib/shadowrig-receiver/clips#'
}

# Users must be there before directories that belong to them.
activate() {
    if [ -n "$root" ]; then
        echo "Not activated: --root was given"
        return
    fi
    echo "Users, directories, services"
    run systemd-sysusers
    run systemd-tmpfiles --create
    run systemctl daemon-reload
    run systemctl enable "$1"
}

if [ -z "$root" ] && [ "$dry_run" = no ]; then
    [ "$(id -u)" -eq 0 ] || fail "must run as root (or use --dry-run or --root DIR)"
    command -v systemctl > /dev/null || fail "systemd is needed: systemctl was not found"
    "$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
        fail "Python 3.10, 3.11 or 3.12 is needed; name one with --python"
    "$python" -c 'import ensurepip' 2> /dev/null ||
        fail "this Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"
fi

units=$source_directory/deploy/systemd
install_software
echo "Files"
case $role in
    vehicle)
        install_vehicle_files
        activate shadowrig.target
        echo "Next: edit $root/etc/shadowrig/rig.yaml, then"
        echo "  $prefix/.venv/bin/shadowrig doctor && systemctl start shadowrig.target"
        ;;
    receiver)
        install_receiver_files
        activate shadowrig-receiver.service
        echo "Next: edit $root/etc/shadowrig/receiver.yaml, then: systemctl start shadowrig-receiver.service"
        ;;
esac
