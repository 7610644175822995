package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// tarred makes one package as tar, gzip and sha1sum would: what describes it first, so that one range gets it.
func tarred(version string, a *appliance.Appliance, signer *xvm.Signer, at time.Time) ([]byte, error) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(a.Data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	description := fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<xvm>
  <name>demo %s</name>
  <memory unit="MiB">16</memory>
  <vcpu>1</vcpu>
  <disk file="%s" target="vda"/>
  <disk file="%s.gz" target="vdb"/>
</xvm>
`, version, appliance.DiskName, appliance.DataName)
	members := []tarMember{
		{"xvm.xml", description}, {appliance.DiskName, a.Disk}, {appliance.DataName + ".gz", packed.Bytes()},
	}
	var manifest []byte
	for _, m := range members {
		s1, s256 := sha1.Sum(m.content), sha256.Sum256(m.content)
		manifest = xvm.AppendGNU(manifest, sums.Sum{Algo: sums.SHA1, Hex: hex.EncodeToString(s1[:])}, m.name)
		manifest = xvm.AppendTag(manifest, sums.Sum{Algo: sums.SHA256, Hex: hex.EncodeToString(s256[:])}, m.name)
	}
	overManifest, err := signer.Sign(manifest, at)
	if err != nil {
		return nil, err
	}
	overDescription, err := signer.Sign(description, at)
	if err != nil {
		return nil, err
	}
	first := []tarMember{
		{"xvm.xml", description}, {"manifest.txt", manifest},
		{"mf-signature.asc", overManifest}, {"signature.asc", overDescription},
	}
	return tarOf(append(first, members[1:]...), at)
}

type tarMember struct {
	name    string
	content []byte
}

func tarOf(members []tarMember, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content)), ModTime: at, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(m.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
