package store

import "fmt"

// Drop makes block b absent in all processes, as if it had been found damaged.
func (f *File) Drop(b int64) error {
	done, err := f.j.begin()
	if err != nil {
		return err
	}
	defer done()
	if _, ok := f.present.peek(b); !ok {
		return nil
	}
	if err := f.drop(b, 1); err != nil {
		return fmt.Errorf("drop block %d: %w", b, err)
	}
	return nil
}
