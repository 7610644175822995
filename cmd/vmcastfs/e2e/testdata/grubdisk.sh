# Makes a whole disk that boots the Debian in the directory $1 by GRUB from Debian's
# packages, unpacked in $2, in the file $3: from the BIOS, or from UEFI if $4 says so.
set -e
debian=$1 grub=$2 disk=$3 firmware=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp --reflink=auto "$debian/root.img" "$work/root"
part=1
[ "$firmware" != uefi ] || part=2
cat >"$work/grub.cfg" <<END
serial --unit=0 --speed=115200
terminal_output serial
search --no-floppy --file --set=root /boot/vmlinuz
linux /boot/vmlinuz root=/dev/vda$part ro console=ttyS0
initrd /boot/initrd.img
boot
END
{
	echo "write $debian/vmlinuz /boot/vmlinuz"
	echo "write $debian/initrd.img /boot/initrd.img"
	echo "mkdir /boot/grub"
	echo "write $work/grub.cfg /boot/grub/grub.cfg"
} | debugfs -w "$work/root" >/dev/null 2>&1
sectors=$(($(stat -c %s "$work/root") / 512))
modules="linux normal serial terminal search search_fs_file ext2 configfile"
if [ "$firmware" = uefi ]; then
	truncate -s $(((2048 + 65536 + sectors + 2048) * 512)) "$disk"
	printf 'label: gpt\nstart=2048, size=65536, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\nstart=67584, size=%d\n' "$sectors" | sfdisk -q "$disk"
	dd if="$work/root" of="$disk" bs=1M seek=33 conv=notrunc,sparse status=none
	"$grub/usr/bin/grub-mkimage" -O x86_64-efi -d "$grub/usr/lib/grub/x86_64-efi" -c "$work/grub.cfg" -p /EFI/BOOT -o "$work/BOOTX64.EFI" part_gpt fat $modules
	truncate -s $((65536 * 512)) "$work/esp"
	mkfs.vfat "$work/esp" >/dev/null
	"$grub/usr/bin/mmd" -i "$work/esp" ::/EFI ::/EFI/BOOT
	"$grub/usr/bin/mcopy" -i "$work/esp" "$work/BOOTX64.EFI" ::/EFI/BOOT/
	dd if="$work/esp" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
	exit
fi
truncate -s $(((2048 + sectors) * 512)) "$disk"
printf 'label: dos\nstart=2048, size=%d, type=83, bootable\n' "$sectors" | sfdisk -q "$disk"
dd if="$work/root" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
# What grub-install does, without a device: the boot sector loads sector 1 and on.
"$grub/usr/bin/grub-mkimage" -O i386-pc -d "$grub/usr/lib/grub/i386-pc" -p '(hd0,msdos1)/boot/grub' -o "$work/core" biosdisk part_msdos $modules
[ "$(stat -c %s "$work/core")" -lt $((2047 * 512)) ]
dd if="$grub/usr/lib/grub/i386-pc/boot.img" of="$disk" bs=440 count=1 conv=notrunc status=none
dd if="$work/core" of="$disk" bs=512 seek=1 conv=notrunc status=none
