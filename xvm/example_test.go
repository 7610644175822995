package xvm_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"vmcastfs/xvm"
)

// packageBytes is an archive in memory.
type packageBytes []byte

func (p packageBytes) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	return bytes.NewReader(p).ReadAt(b, off)
}

// A publisher signs a package of one image. Somebody who has no key adds another
// image. A reader finds out who vouches for which.
func Example() {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	publisher, _ := xvm.NewSigner("Publisher", "publisher@example.org", at)
	public, _ := publisher.PublicKey()
	keyring, _ := xvm.ParseKeyring(public)

	disk := []byte("the disk")
	manifest := fmt.Appendf(nil, "SHA256 (root.img) = %x\n", sha256.Sum256(disk))
	signature, _ := publisher.Sign(manifest, at)
	var pkg bytes.Buffer
	w := tar.NewWriter(&pkg)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{xvm.ManifestName, manifest}, {xvm.ManifestSignatureName, signature}, {"root.img", disk}, {"extra.img", disk},
	} {
		_ = w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))})
		_, _ = w.Write(f.content)
	}
	_ = w.Close()

	ctx, archive := context.Background(), packageBytes(pkg.Bytes())
	index, err := xvm.Walk(ctx, archive, int64(len(archive)), xvm.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	small, err := xvm.ReadSmall(ctx, archive, index)
	if err != nil {
		fmt.Println(err)
		return
	}
	verdict, err := xvm.Judge(xvm.Evidence{Index: index, Small: small}, xvm.Policy{Keyring: keyring, Required: true}, at)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("the package:", verdict.By)
	for _, name := range []string{"root.img", "extra.img"} {
		standing := verdict.Member(name)
		fmt.Printf("%s: %q %s\n", name, standing.Refused, standing.Signer)
	}
	// Output:
	// the package: publisher
	// root.img: "" Publisher <publisher@example.org>
	// extra.img: "the signed manifest does not list it"
}
