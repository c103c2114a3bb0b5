#!/bin/sh
# Compares the images that two apkos make of the same files: what is in the root, in which mode, whose, with which
# content, and how a container is started. Another apko's own test data is a good beginning:
#
#   APKO=path/to/ours PEER=path/to/other scripts/apko-compare.sh FOLDER IMAGE.yaml...
#
# FOLDER is where image files are read from, as their repositories and keys are named from there. Each difference is
# one line with its class, which are explained at the end; "?" is one that nobody has explained yet, and fails. Locks
# are compared too.
set -eu
folder=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# member ARCHIVE NAME; layers and config of a docker archive are named in its manifest.json.
member() { tar -xOf "$1" "$2"; }
layers() { member "$1" manifest.json | tr -d ' \n' | sed 's/.*"Layers":\[\([^]]*\)\].*/\1/' | tr -d '"' | tr ',' '\n'; }
config() { member "$1" "$(member "$1" manifest.json | tr -d ' \n' | sed 's/.*"Config":"\([^"]*\)".*/\1/')"; }

# root ARCHIVE: a line for each name: what it is, mode, owner, link or size and digest; of layers the upper one counts.
root() {
	for layer in $(layers "$1"); do
		member "$1" "$layer" | gzip -dc >"$work/layer.tar"
		tar -xf "$work/layer.tar" --to-command='printf "%s\t%s\n" "$TAR_FILENAME" "$(sha256sum | cut -c1-16)"' |
			sed 's|/$||; s|^\./||' >"$work/sums"
		tar --numeric-owner --full-time -tvf "$work/layer.tar" | awk -v sums="$work/sums" '
			BEGIN { while ((getline line < sums) > 0) { split(line, f, "\t"); sum[f[1]] = f[2] } }
			{
				name = $0
				sub(/^[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ /, "", name)
				link = ""
				if ($1 ~ /^l/) { link = name; sub(/^.* -> /, "", link); link = " -> " link; sub(/ -> .*/, "", name) }
				if ($1 ~ /^h/) { link = name; sub(/^.* link to /, "", link); link = " = " link; sub(/ link to .*/, "", name) }
				sub(/\/$/, "", name); sub(/^\.\//, "", name)
				size = $3; if ($1 ~ /^[dl]/) size = ""
				print name "\t" $1 " " $2 " " size link " " sum[name]
			}'
	done | awk -F'\t' '{ last[$1] = $2 } END { for (name in last) print name "\t" last[name] }' | sort
}

# start ARCHIVE: how a container is started, a line for each value.
start() {
	config "$1" | tr -d '\n' | sed 's/.*"config":{/{/; s/,"\(rootfs\|history\|architecture\|os\|created\|author\|variant\)":.*//' |
		sed 's/,"/\n"/g; s/^{//' | sed 's/}*$//' | sort
}

# pair OTHER OURS: the names of which the two differ, as "name, what the other has, what ours has", with the class before.
pair() {
	awk -F'\t' '
		function owner(line) { split(line, f, " "); return f[2] }
		function without(line) { sub(" " owner(line) " ", " ", line); return line }
		function class(name, a, b) {
			if (a != "" && b != "" && without(a) == without(b)) return "owner"
			if (name ~ /^(usr\/)?lib\/apk(\/|$)/ || name == "etc/apk/world") return "database"
			if (name == "etc/apk/repositories") return "repositories"
			if (name == "etc/apko.json") return "apko.json"
			if (name ~ /^dev\// && a ~ /^c/ && b == "") return "devices"
			if (name ~ /^(sys|opt|usr|usr\/lib|proc)$/) return "skeleton"
			if (a ~ /^drwx------/ && b == "") return "homes"
			if (a ~ /^d/ && b ~ /^d........[tT]/ || b ~ /^d...*[sS]/) return "modes"
			if (name ~ /^etc\/(passwd|group|shadow)$/) return "accounts"
			if (name == "etc/ld.so.cache") return "ld.so.cache"
			if (name ~ /^etc\/ssl(\/|$)/ && a == "") return "bundle"
			if (name ~ /created"$/) return "created"
			return "?"
		}
		NR == FNR { other[$1] = $2; names[$1]; next }
		{ ours[$1] = $2; names[$1] }
		END {
			for (name in names) if (other[name] != ours[name]) {
				c = class(name, other[name], ours[name])
				print c "\t" name "\t" other[name] "\t" ours[name]
				if (c == "?") bad = 1
			}
			exit bad
		}' "$1" "$2" >"$work/pairs" || bad=1
	sort "$work/pairs" | sed "s|^|$3: |"
}

# locked ARCHIVE: a line for each fact of a lock's packages.
locked() {
	tr -d ' \n' <"$1" | sed 's/.*"packages":\[//; s/},{"name"/\n"name"/g' | sed 's/"\(url\|architecture\)":"[^"]*",//g' |
		awk -F'"' '{ print $4 "\t" $0 }' | tr -d '[]{}' | sort
}

bad=0
for image in "$@"; do
	ours=$work/ours peer=$work/peer
	rm -f "$ours".* "$peer".*
	(cd "$folder" && "$APKO" build "$image" compare:x "$ours.tar" --arch x86_64 --cache-dir "$work/ours-cache" &&
		"$APKO" lock "$image" --output "$ours.lock" --arch x86_64 --cache-dir "$work/ours-cache") >"$work/out" 2>&1 ||
		{ echo "$image: ours fails:" && cat "$work/out"; bad=1; continue; }
	(cd "$folder" && "$PEER" build "$image" compare:x "$peer.tar" --arch x86_64 --cache-dir "$work/peer-cache" --sbom-path "$work" --vcs=false &&
		"$PEER" lock "$image" --output "$peer.lock" --arch x86_64 --cache-dir "$work/peer-cache") >"$work/out" 2>&1 ||
		{ echo "$image: the other fails:" && tail -3 "$work/out"; continue; }
	for a in "$ours" "$peer"; do
		root "$a.tar" >"$a.root"
		start "$a.tar" | sed 's/:/\t/' >"$a.start"
		locked "$a.lock" >"$a.locked"
	done
	for kind in root start locked; do
		pair "$peer.$kind" "$ours.$kind" "$image"
	done
	echo "$image: $(wc -l <"$ours.root") names, $(comm -12 "$ours.root" "$peer.root" | wc -l) the same"
done
cat <<'END'

owner         files belong to whom their package says; the other gives everything to root
database      apk's database lies in /lib/apk, as apk makes it, unless the root is a merged one; /etc/apk/world is what the
              image file wants, not every package with its version, so that an upgrade inside is possible
repositories  folders of the building machine mean nothing in an image
apko.json     is not there: it would be another image for another place of the packages
devices       a container's runtime makes them; an image without can be unpacked by anyone
skeleton      /sys is there, /opt and an empty /usr are not; of others the mode is what packages say
modes         setuid, setgid and sticky bits of directories are kept
homes         are made for the accounts of the image file; those of packages' accounts are the packages' matter
accounts      /etc/passwd is not made when nobody has an account
ld.so.cache   knows every machine, the whole of ld.so.conf and glibc-hwcaps
bundle        certificates of packages make a bundle where there is none
created       an image's date is in its labels
END
exit $bad
