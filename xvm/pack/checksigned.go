package pack

import (
	"cmp"
	"context"
	"vmcastfs/xvm"
)

// description is the member that describes the machine, or what it would be called.
func (c *checker) description() string { return cmp.Or(c.index.Description(), "xvm.xml") }

func (c *checker) signatures(ctx context.Context) error {
	signed := []struct {
		name, signature string
		verdict         *Signature
	}{
		{c.manifestName, xvm.ManifestSignatureName, &c.report.Manifest},
		{c.description(), xvm.DescriptionSignatureName, &c.report.Description},
	}
	for _, s := range signed {
		content, err := c.small(ctx, s.name)
		if err != nil {
			return err
		}
		signature, err := c.small(ctx, s.signature)
		if err != nil {
			return err
		}
		*s.verdict = c.verify(s.name, content, s.signature, signature)
		if v := s.verdict; v.State == "good" && checkArmor(signature) != nil {
			c.report.fault("%s: %v, though the signature is good", s.signature, checkArmor(signature))
		}
	}
	c.useSidecar()
	for _, s := range signed {
		switch v := s.verdict; {
		case v.State == "bad" && c.vouched():
			c.report.warn("%s: %s; the sidecar vouches for the package", s.signature, v.Reason)
		case v.State == "bad":
			c.report.fault("%s: %s", s.signature, v.Reason)
		case s.verdict == &c.report.Description && c.byName[s.name] == nil:
			// As with an OVA: its descriptor is a file that the manifest lists.
		case v.State == "missing" && c.o.RequireSigned && !c.vouched():
			c.report.fault("%s is not signed: %s", s.name, v.Reason)
		}
	}
	return nil
}

func (c *checker) verify(name string, signed []byte, signatureName string, signature []byte) Signature {
	switch {
	case signed == nil:
		return Signature{State: "missing", Reason: "there is no " + name}
	case signature == nil:
		return Signature{State: "missing", Reason: "there is no " + signatureName}
	case c.o.Keyring == nil:
		return Signature{State: "unchecked", Reason: "no keyring is given"}
	}
	v, err := c.o.Keyring.Verify(signed, signature, c.o.Now)
	if err != nil {
		return Signature{State: "bad", Reason: err.Error()}
	}
	return Signature{State: "good", Signer: v.Signer, Key: v.KeyID, Time: v.Time}
}

// signed tells whether a trusted key signed the package.
func (c *checker) signed() bool {
	return c.report.Manifest.State == "good" && (c.byName[c.description()] == nil || c.report.Description.State == "good")
}
