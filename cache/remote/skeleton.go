package remote

import (
	"context"
	"errors"
	"io"
	"time"

	"vmcastfs/cache"
)

var errSkeleton = errors.New("not written yet")

type Client struct{}

func NewClient(o Options) (*Client, error) { return nil, errSkeleton }
func (c *Client) Close() error             { return nil }

// Open asks for the first 128 KiB of a URL and pins what the server says of the object.
func (c *Client) Open(ctx context.Context, url, base string) (*Object, error) {
	return nil, errSkeleton
}

// Resume is Open from a persisted identity, without a request.
func (c *Client) Resume(url, base string, id Identity) *Object { return nil }

// Get fetches a whole document of at most limit bytes (decoded).
func (c *Client) Get(ctx context.Context, url, etag, lastModified string, limit int64) (*Document, error) {
	return nil, errSkeleton
}
func (c *Client) Stats() []OriginStats { return nil }

type Identity struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"lastModified,omitempty"`
	Size         int64  `json:"size"` // -1 if unknown
	Ranged       bool   `json:"ranged"`
}

type Object struct{}

func (o *Object) Identity() Identity { return Identity{} }
func (o *Object) Head() []byte       { return nil }
func (o *Object) URL() string        { return "" }
func (o *Object) Fetch(ctx context.Context, off, n int64, u cache.Urgency) (io.ReadCloser, error) {
	return nil, errSkeleton
}

// OneStream is the object as a source that can only be read forward.
func (o *Object) OneStream() cache.Forward { return nil }

type Document struct {
	Body               []byte
	ETag, LastModified string
	FinalURL           string // after redirects, without credentials
	ContentType        string
	NotModified        bool
	MaxAge             time.Duration // of Cache-Control; 0 if not said
}

type OriginStats struct {
	Origin string `json:"origin"` // scheme://host:port
}
