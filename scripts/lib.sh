# SPDX-License-Identifier: BSD-2-Clause
# Shared by the scripts of this folder: messages, the cache, and an apt of our own.

PATH=$PATH:/usr/sbin:/sbin	# modinfo and depmod, for who is not root
cache=${XDG_CACHE_HOME:-$HOME/.cache}/openvmci
me=${0##*/}

say() { printf '%s: %s\n' "$me" "$*" >&2; }
die() { say "$*"; exit 1; }

# cached NAME FUNCTION: has FUNCTION fill a directory, which becomes $cache/NAME
# when it is complete. A lock keeps two clones apart, the rename makes it whole or
# not at all: what a killed run left behind is swept away by the next.
cached() {
	[ -d "$cache/$1" ] && return
	mkdir -p "$cache" || die "cannot create $cache"
	exec 9>"$cache/$1.lock"
	flock -n 9 || { say "another run is making $1, waiting for it"; flock 9; }
	if [ ! -d "$cache/$1" ]; then
		rm -rf "$cache/$1.tmp"
		mkdir -p "$cache/$1.tmp/out"
		"$2" "$cache/$1.tmp/out" "$cache/$1.tmp"
		sync -f "$cache/$1.tmp/out"
		mv "$cache/$1.tmp/out" "$cache/$1"
		rm -rf "$cache/$1.tmp"
	fi
	exec 9>&-
}

# The Debian mirror that this machine itself uses.
mirror() {
	. /etc/os-release
	apt-get indextargets 'Created-By: Packages' \
		--format '$(ORIGIN)/$(LABEL)/$(COMPONENT) $(RELEASE) $(REPO_URI)' |
	awk -v code="${VERSION_CODENAME:-}" '
		$1 == "Debian/Debian/main" { print $3; found = 1; exit }
		$2 == code && !other { other = $3 }	# lists never fetched: no origin known
		END { if (!found && other) print other }'
}

# apt_init DIR SUITE...: an apt with lists and an empty status of its own in DIR.
# Mirror, proxy and other settings are the host's, of which nothing changes.
apt_init() {
	apt_dir=$1
	shift
	apt_mirror=$(mirror)
	[ -n "$apt_mirror" ] || die "no Debian mirror in this machine's apt sources"
	mkdir -p "$apt_dir/lists/partial" "$apt_dir/archives/partial"
	: >"$apt_dir/status"
	for suite in "$@"; do
		echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]" \
			"$apt_mirror $suite main"
	done >"$apt_dir/sources.list"
	cat >"$apt_dir/apt.conf" <<-END
		Dir::State "$apt_dir";
		Dir::State::status "$apt_dir/status";
		Dir::Cache "$apt_dir";
		Dir::Etc::SourceList "$apt_dir/sources.list";
		Dir::Etc::SourceParts "/dev/null";
		Dir::Etc::Preferences "/dev/null";
		Dir::Etc::PreferencesParts "/dev/null";
		APT::Architecture "amd64";
		APT::Sandbox::User "$(id -un)";
		APT::Install-Recommends "false";
		APT::Default-Release "";
		#clear APT::Update;
		#clear DPkg::Pre-Install-Pkgs;
		#clear DPkg::Post-Invoke;
	END
	apt_get update || die "cannot fetch the package lists of: $*"
}

# Shows its progress to people only.
apt_get() {
	if [ -t 2 ]; then
		apt-get -c "$apt_dir/apt.conf" "$@" >&2
	else
		apt-get -c "$apt_dir/apt.conf" -qq "$@" >&2
	fi
}
apt_cache() { apt-cache -c "$apt_dir/apt.conf" "$@"; }
