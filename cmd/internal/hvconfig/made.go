package hvconfig

// Kinds of disks that are there before the text is written, see [Options.Made].
const (
	MadeOverlay = "overlay" // a qcow2 on the image
	MadeCopy    = "copy"    // has all that the image has, in the image's format
)

// overlayFormat is QEMU's name of the driver for what is attached instead of an
// image.
func (v Drive) overlayFormat() string {
	if v.made == MadeCopy {
		return v.Format
	}
	return "qcow2"
}

// Attached are the drives of the machine in the form for xl, or for the others, that
// have a disk of their own instead of an image.
func (m *Machine) Attached(xl bool) (drives []Drive) {
	if !xl {
		m = m.single(false)
	}
	for _, v := range m.Drives {
		if v.Overlay != "" {
			drives = append(drives, v)
		}
	}
	return drives
}
