# Makes the files that boot a small Xen host, a dom0, in the directory $1, of Debian's
# packages in $2 and of the programs after it. Nothing is installed: they are unpacked.
# The same files boot without Xen.
#
# The host is an initramfs of busybox, bash for Xen's scripts, Xen's tools with
# their libraries, and the program. It runs the commands that dom0-init fetches.
set -e
out=$1 debs=$2 init=$(dirname "$0")/dom0-init
shift 2
root=$out/packages dom0=$out/dom0
for deb in "$debs"/*.deb; do dpkg-deb -x "$deb" "$root"; done
xen=$(basename "$root"/usr/lib/xen-4*) version=$(basename "$root"/lib/modules/*)
mkdir -p "$dom0"/{bin,sbin,dev,proc,sys,run,tmp,etc,lib64,srv,usr/bin,usr/sbin,usr/libexec,usr/share/qemu,var/lib/xen,var/log/xen} "$dom0/usr/lib/$xen"/{bin,boot} "$dom0/lib/x86_64-linux-gnu"
ln -s /run "$dom0/var/run"
ln -s /run/lock "$dom0/var/lock" # of xl console
cp -a "$root/etc/xen" "$dom0/etc/"
cp -a "$root/usr/lib/$xen/bin"/{xl,xenstored,xenconsoled,xenconsole,xen-init-dom0,libxl-save-helper} "$dom0/usr/lib/$xen/bin/"
cp -a "$root/usr/lib/$xen/boot/hvmloader" "$dom0/usr/lib/$xen/boot/"
cp -a "$root/usr/libexec/xen-qemu-system-i386" "$dom0/usr/libexec/"
cp -aL "$root/usr/share/seabios" "$dom0/usr/share/"
cp -a "$root"/usr/share/qemu/keymaps "$dom0/usr/share/qemu/"
cp -a "$root"/usr/bin/xenstore* "$(command -v flock)" "$(command -v qemu-img)" "$dom0/usr/bin/"
cp "$(command -v bash)" "$dom0/bin/"
cp "$(command -v losetup)" "$(command -v dmsetup)" "$dom0/sbin/"
export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu
for f in "$dom0"/bin/bash "$dom0"/sbin/{losetup,dmsetup} "$dom0"/usr/bin/* "$dom0/usr/lib/$xen"/bin/* "$dom0"/usr/libexec/*; do ldd "$f" || true; done 2>/dev/null >"$out/libs"
! grep 'not found' "$out/libs"
for lib in $(awk '/=> \//{print $3}' "$out/libs" | sort -u); do cp -L "$lib" "$dom0/lib/x86_64-linux-gnu/"; done
cp -L /lib64/ld-linux-x86-64.so.2 "$dom0/lib64/"
unset LD_LIBRARY_PATH
cp "$(command -v busybox)" "$dom0/bin/busybox"
for a in $(busybox --list); do
	[ -e "$dom0/sbin/$a" ] || [ -e "$dom0/usr/bin/$a" ] || [ -e "$dom0/bin/$a" ] || ln -s /bin/busybox "$dom0/bin/$a"
done
for m in drivers/xen drivers/block/loop.ko drivers/block/xen-blkback drivers/md/dm-{mod,bufio,snapshot}.ko drivers/net/ethernet/intel/e1000 fs/fuse/fuse.ko; do
	mkdir -p "$dom0/lib/modules/$version/kernel/$(dirname $m)"
	cp -r "$root/lib/modules/$version/kernel/$m" "$dom0/lib/modules/$version/kernel/$m"
done
cp "$root/lib/modules/$version"/modules.{builtin,order} "$dom0/lib/modules/$version/"
busybox depmod -b "$dom0" "$version"
cp "$@" "$dom0/usr/bin/"
ln -s /usr/bin/vmcastfs "$dom0/sbin/mount.vmcastfs"
cp "$init" "$dom0/init"
chmod 755 "$dom0/init"
(cd "$dom0" && find . | cpio -o -H newc --quiet) >"$out/initrd"
gunzip -c "$root"/boot/xen-*.gz >"$out/xen"
mv "$root/boot/vmlinuz-$version" "$out/vmlinuz"
rm -rf "$root" "$dom0"
