package main

import (
	"github.com/spf13/cobra"
)

// importCall is one call of `vmcastfs feed import`.
type importCall struct {
	address, out, title string
	only, keyring       string
	unsigned, index     bool
	older               bool
	asJSON              bool
	list                string
	sign                signFlags
}

// feedCommand is `vmcastfs feed …`.
func feedCommand(e *env) *cobra.Command {
	return group(&cobra.Command{Use: "feed", Short: "make feeds of what others publish"}, feedImportCommand(e))
}

// feedImportCommand is `vmcastfs feed import --keyring KEYS [-o FILE] URL`.
func feedImportCommand(e *env) *cobra.Command {
	var c importCall
	cmd := &cobra.Command{
		Use:   "import --keyring KEYS [--only FILTER] [-o FILE] URL",
		Short: "make a feed of a catalogue of disk images",
		Long: `import makes a feed of the images that somebody else publishes. The feed has the
publisher's own addresses, and the SHA-256 of each image, which mounts compare.
Nothing is copied. URL is one of these:

  simplestreams     …/streams/v1/index.sjson or index.json, or the directory
                    above streams (Ubuntu, Incus, LXD)
  a file of sums    …/SHA256SUMS, SHA512SUMS, NAME-CHECKSUM, or its directory
                    (Debian, Ubuntu, Fedora)
  one image's sum   …/disk.qcow2.sha256 or .sha512 (Alpine)

The catalogue has to be signed: in itself, or by a file beside it with .gpg,
.sign or .asc behind its name. The signature is checked against the keys that
--keyring names; take them from the publisher, not from the catalogue. What is
not signed is taken with --unsigned: then whoever controls the server or the
network says what the images are. One thing wrong in what is wanted, such as an
image outside of the catalogue, refuses the whole, with the reason.

The feed keeps when the catalogue was signed. One that was signed earlier is an
old one, and is refused; --older takes it.

--only leaves out the rest. It takes FIELD=PATTERN with commas between, all of
which must hold. The fields are arch, file, kind, name, os, product, release and
version; * and ? stand for any text and any character. newest=N takes the N
newest versions of each product.

A sum of the whole checks an image only once all of it is here. With --index
each image is read once, compared with its sum, and gets a sidecar beside FILE:
a block list with which mounts check every block before they serve it. --sign
signs it, by which you vouch for the image: mounts that have your key require no
other signature. An image that its publisher summed by SHA-512 alone is read
once, too, for its SHA-256.

Run it again when the catalogue has changed. What the feed has already is not
asked for again; what has left the catalogue leaves the feed. The exit status is
0 if the feed is as the catalogue, else 1, and FILE is as it was. What an import
that was interrupted has read whole is not read again: until one ends, FILE.part
beside FILE and the sidecars tell.`,
		Example: `  vmcastfs feed import --keyring ubuntu-cloudimage-keyring.gpg \
    --only 'arch=amd64,release=noble,kind=disk1.img,newest=3' \
    --index --sign key.asc -o /srv/www/u/vmcast.xml \
    https://cloud-images.ubuntu.com/releases/
  mount -t vmcastfs -o keyring=my.asc,sidecar=https://example.org/u/ \
    https://example.org/u/vmcast.xml /srv/ubuntu`,
		Args: exactArgs(1, "a URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.address = args[0]
			return e.feedImport(cmd.Context(), c)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&c.out, "output", "o", publishedFeed, "write the feed to `FILE`")
	flags.StringVar(&c.title, "title", "", "`TITLE` of the feed (default: as before, else where it comes from)")
	flags.StringVar(&c.keyring, "keyring", "", "`KEYS` of the publisher: a file, or a directory of them")
	flags.BoolVar(&c.unsigned, "unsigned", false, "take a catalogue that is not signed")
	flags.BoolVar(&c.older, "older", false, "take a catalogue signed before the one that FILE was made of")
	flags.StringVar(&c.only, "only", "", "`FILTER` of what is wanted, e.g. arch=amd64,newest=2")
	flags.BoolVar(&c.index, "index", false, "make a sidecar for each image")
	flags.BoolVar(&c.asJSON, "json", false, "print what was done as JSON")
	flags.StringVar(&c.list, "options", "", "mount `OPTIONS` that concern the network")
	_ = cmd.RegisterFlagCompletionFunc("options", completeOptions)
	cmd.MarkFlagsMutuallyExclusive("keyring", "unsigned")
	c.sign.add(cmd)
	return cmd
}
