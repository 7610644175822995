package fs

import (
	"context"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// A readCall is one READ: the context it waits under and the answer to it. The
// object is used again, so that a read of what is here makes no garbage.
type readCall struct {
	waiter
	vfs  *vfs
	data []byte
}

var _ fuse.ReadResult = (*readCall)(nil)

// newRead returns a call. Its context has to be ended by finish before it is the
// answer.
func (v *vfs) newRead(ctx context.Context, image *slotUser) *readCall {
	c, _ := v.reads.Get().(*readCall)
	if c == nil {
		c = &readCall{vfs: v}
	}
	c.waiter.begin(ctx, v.opts.InterruptGrace, &v.room, image)
	return c
}

func (c *readCall) answer(data []byte) fuse.ReadResult {
	c.data = data
	return c
}

func (c *readCall) Bytes([]byte) ([]byte, fuse.Status) { return c.data, fuse.OK }
func (c *readCall) Size() int                          { return len(c.data) }

// Done is called by go-fuse when it needs the answer no more. A context whose
// end somebody has waited for may still be known to them: it stays ended.
func (c *readCall) Done() {
	c.data = nil
	if c.waiter.reset() {
		c.vfs.reads.Put(c)
	}
}
