#!/bin/sh
# make.sh DIR: makes keys and signatures with GnuPG in DIR, for the signature
# tests: NAME.key (public keys, armored) and NAME.sig (a signature over message.txt).
set -eu
cd "$1"
GNUPGHOME=$(mktemp -d /tmp/vmcast-gpg.XXXXXX)
export GNUPGHOME
trap 'gpgconf --kill all; rm -rf "$GNUPGHOME"' EXIT
printf 'allow-loopback-pinentry\n' >"$GNUPGHOME/gpg-agent.conf"
g() { gpg --batch --yes --quiet --no-tty --pinentry-mode loopback --passphrase '' "$@"; }
new() { # new NAME ALGO USAGE EXPIRE [OPTION...]: a key with the user id of that name
	n=$1 a=$2 u=$3 e=$4; shift 4
	g "$@" --quick-gen-key "$n <$n@example.org>" "$a" "$u" "$e"
}
export_key() { g --armor --export "=$1 <$1@example.org>" >"$1.key"; }
sign() { # sign NAME [OPTION...]
	n=$1; shift
	g "$@" --armor -u "=$n <$n@example.org>" --output "$n.sig" --detach-sign message.txt
}
fpr() { g --with-colons --list-keys "=$1 <$1@example.org>" | awk -F: '$1 == "fpr" { print $10; exit }'; }

echo 'b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2b2  root.img' >message.txt
echo 'another message' >other.txt
past='--faked-system-time 20200101T000000!'

for k in rsa:rsa2048 ecdsa:nistp256 ed25519:ed25519 weakrsa:rsa1024; do
	new "${k%%:*}" "${k#*:}" sign never
done
for bits in 2048 1024; do
	n=dsa; [ $bits = 2048 ] || n=weakdsa
	g --gen-key <<-END
		%no-protection
		Key-Type: DSA
		Key-Length: $bits
		Key-Usage: sign
		Name-Real: $n
		Name-Email: $n@example.org
		Expire-Date: 0
		%commit
	END
done
new subkey rsa2048 cert never
g --quick-add-key "$(fpr subkey)" ed25519 sign never
for n in rsa dsa ecdsa ed25519 weakrsa weakdsa subkey; do
	sign $n --enable-dsa2 --digest-algo SHA256
	export_key $n
done

new sha1 rsa2048 sign never
sign sha1 --digest-algo SHA1
export_key sha1

new expired ed25519 sign 30d $past
sign expired $past
export_key expired

new sigexpired ed25519 sign never $past
sign sigexpired $past --default-sig-expire 1d
export_key sigexpired

new extended ed25519 sign 30d $past # expired once, its owner gave it more time
sign extended $past
g --quick-set-expire "$(fpr extended)" 0
export_key extended

new future ed25519 sign never
sign future --faked-system-time 20600101T000000!
export_key future

for n in revoked superseded; do
	new $n ed25519 sign never $past
	sign $n $past
	reason=1; [ $n = revoked ] || reason=2
	printf 'y\n%s\n\ny\n' $reason | gpg --quiet --no-tty --pinentry-mode loopback --passphrase '' --command-fd 0 \
		--status-fd 2 --armor --output $n.rev --gen-revoke "$(fpr $n)" 2>/dev/null
	g --import $n.rev
	rm $n.rev
	export_key $n
done

g --armor --export '=rsa <rsa@example.org>' '=ed25519 <ed25519@example.org>' >two.key
g --export '=rsa <rsa@example.org>' '=ed25519 <ed25519@example.org>' >two.gpg
r='-u rsa@example.org' e='-u ed25519@example.org'
g $r --output binary.sig --detach-sign message.txt
g $r --armor --output other.sig --detach-sign other.txt
g $r $e --armor --output both.sig --detach-sign message.txt
g $r --armor --textmode --output text.sig --detach-sign message.txt
g $r --armor --output inline.sig --sign message.txt
g $r --output inlinebinary.sig --sign message.txt
g $r --output clear.sig --clear-sign message.txt
{ cat other.sig; echo junk between; cat ed25519.sig; } >mixed.sig
{ echo leading junk; cat rsa.sig; echo trailing junk; } >junk.sig
cat rsa.sig ed25519.key >withkey.sig

g --armor --export-secret-keys '=rsa <rsa@example.org>' >rsa.sec
gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase secret --quick-gen-key 'pass <pass@example.org>' ed25519 sign never
gpg --batch --quiet --no-tty --pinentry-mode loopback --passphrase secret --armor --export-secret-keys '=pass <pass@example.org>' >pass.sec
g --armor --export '=pass <pass@example.org>' >pass.key
