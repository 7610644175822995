module vmcastfs

go 1.26.0

require (
	github.com/ProtonMail/go-crypto v1.5.2 // OpenPGP signatures; the maintained fork of x/crypto/openpgp
	github.com/cenkalti/backoff/v5 v5.0.3 // exponential back-off with jitter for retries
	github.com/cespare/xxhash/v2 v2.3.0 // checksums of the chunks of XVA archives
	github.com/coreos/go-systemd/v22 v22.7.0 // sd_notify: READY, STATUS and watchdog
	github.com/cpuguy83/go-md2man/v2 v2.0.7 // manual pages from Markdown, as cobra makes those of commands
	github.com/dgraph-io/ristretto/v2 v2.4.2 // the memory tier of the block cache
	github.com/dustin/go-humanize v1.1.0 // sizes in options and tables
	github.com/google/renameio/v2 v2.0.2 // atomic replacement of small files
	github.com/hanwen/go-fuse/v2 v2.12.1 // the FUSE protocol and inode tree
	github.com/jdx/go-netrc v1.0.0 // netrc files
	github.com/klauspost/compress v1.20.3 // zstd; faster gzip for packing
	github.com/microcosm-cc/bluemonday v1.0.27 // HTML of release notes made harmless
	github.com/mmcdole/gofeed v1.4.2 // RSS, Atom and JSON Feed parsing
	github.com/moby/sys/mountinfo v0.7.3 // parsing /proc/self/mountinfo
	github.com/prometheus/client_golang v1.25.0 // metrics
	github.com/rogpeppe/go-internal v1.16.0 // testscript, for tests of the command line
	github.com/schollz/progressbar/v3 v3.19.1 // progress bars on a terminal
	github.com/spf13/cobra v1.10.2 // commands, help, completions
	github.com/ulikunitz/xz v0.5.17 // xz streams of tests, and the peer in the benchmark of our decoder
	github.com/yuin/goldmark v1.8.7 // release notes written in Markdown
	go.uber.org/goleak v1.3.0 // goroutine-leak checks in tests
	golang.org/x/net v0.62.0 // character sets, HTML tokens, proxy rules
	golang.org/x/sync v0.24.0 // errgroup
	golang.org/x/sys v0.49.0 // system calls the standard library lacks
	golang.org/x/term v0.47.0 // is this a terminal?
	golang.org/x/text v0.43.0 // Unicode normalisation and case folding of names
	golang.org/x/time v0.16.0 // bandwidth limiting
	libvirt.org/go/libvirtxml v1.12008.0 // the XML of libvirt domains, kept by libvirt
)

require (
	github.com/aymerick/douceur v0.2.0 // indirect
	github.com/beorn7/perks v1.0.1 // indirect
	github.com/cloudflare/circl v1.6.3 // indirect
	github.com/gorilla/css v1.0.1 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/mitchellh/colorstring v0.0.0-20190213212951-d06e56a500db // indirect
	github.com/mmcdole/goxpp/v2 v2.0.0 // indirect
	github.com/munnerz/goautoneg v0.0.0-20191010083416-a7dc8b61c822 // indirect
	github.com/prometheus/client_model v0.6.3 // indirect
	github.com/prometheus/common v0.72.0 // indirect
	github.com/prometheus/procfs v0.22.0 // indirect
	github.com/rivo/uniseg v0.4.7 // indirect
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/spf13/pflag v1.0.10 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.58.0 // indirect
	golang.org/x/tools v0.52.0 // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)
