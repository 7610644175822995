package image

import (
	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// format names what an image's first bytes show, as far as they are in the
// cache; "" until they are. It never touches the network.
func (h *headCheck) format(st *store.Store, key store.Key, size int64) string {
	if known := h.disk.Load(); known != nil {
		return known.Format
	}
	head, tail := localEnds(st, key, size)
	if head == nil {
		return ""
	}
	disk := xvm.Sniff(head, tail)
	if whole := min(size, xvm.SniffHead); int64(len(head)) < whole || disk.Format == "raw" && tail == nil {
		return disk.Format // more bytes may tell more
	}
	h.disk.Store(&disk)
	return disk.Format
}

// localEnds returns the first and last bytes of the image from the disk, nil
// where they are not there.
func localEnds(st *store.Store, key store.Key, size int64) (head, tail []byte) {
	info, err := st.Stat(key)
	if err != nil {
		return nil, nil
	}
	sf, err := st.File(key, size, info.BlockSize)
	if err != nil {
		return nil, nil
	}
	defer sf.Close()
	size = sf.Size()
	for b := int64(0); size != store.Unknown && int64(len(head)) < min(xvm.SniffHead, size); b++ {
		block := make([]byte, info.BlockSize)
		n, err := sf.ReadBlock(b, block)
		if err != nil {
			break
		}
		head = append(head, block[:n]...)
	}
	if last := sf.Blocks() - 1; len(head) > 0 && last >= 0 {
		block := make([]byte, info.BlockSize)
		if n, err := sf.ReadBlock(last, block); err == nil {
			tail = block[max(0, n-xvm.SniffTail):n]
		}
	}
	return head, tail
}
