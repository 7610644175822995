package archive

import "errors"

var (
	// ErrRefused: the trust policy forbids the content. The wrapping error
	// says why.
	ErrRefused = errors.New("refused by the trust policy")
	// ErrReplaced: the archive was replaced on its server after this
	// generation was opened. What is in the cache is still served; the rest
	// of this generation is gone.
	ErrReplaced = errors.New("archive was replaced on its server")
)
