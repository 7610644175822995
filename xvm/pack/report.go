package pack

import (
	"fmt"

	"vmcastfs/xvm"
)

// State is what is known of a file.
type State string

// The states.
const (
	Verified   State = "verified"   // all of it is covered by something, and nothing contradicts
	Unverified State = "unverified" // nothing covers it
	Corrupt    State = "corrupt"    // something contradicts
)

// Report says what is known of a package after it was read whole. Its JSON form
// is a contract: fields are added, not renamed.
type Report struct {
	Size        int64          `json:"size"`             // of the archive, bytes
	SHA256      string         `json:"sha256,omitempty"` // of the archive; Index only
	Files       []FileReport   `json:"files"`            // in the order of the archive, plain content behind what it is in
	Manifest    xvm.Signature  `json:"manifest_signature"`
	Description xvm.Signature  `json:"description_signature"`
	Sidecar     *xvm.Signature `json:"sidecar_signature,omitempty"` // nil: there is no sidecar
	Refused     string         `json:"refused,omitempty"`           // why a mount serves nothing of it; "": it does
	Faults      []string       `json:"faults"`                      // of files and of the whole; none: nothing is wrong
	Warnings    []string       `json:"warnings,omitempty"`
}

// FileReport says what is known of a file.
type FileReport struct {
	Name   string   `json:"name"`
	From   string   `json:"from,omitempty"` // the member it was inflated from
	Size   int64    `json:"size"`           // bytes; -1: it could not be inflated to its end
	State  State    `json:"state"`
	Proofs []string `json:"proofs"` // by what it is proven, each a clause
	Faults []string `json:"faults,omitempty"`
	// Refused is why a mount does not serve it, though it serves others of the
	// package: signatures are required, or its compression is not supported.
	Refused string `json:"refused,omitempty"`

	listed string // what the block list proves of it, if the list itself is proven
}

// proof adds something that covers the file.
func (f *FileReport) proof(format string, args ...any) {
	f.Proofs = append(f.Proofs, fmt.Sprintf(format, args...))
	if f.State == Unverified {
		f.State = Verified
	}
}

// fault adds something that contradicts.
func (f *FileReport) fault(format string, args ...any) {
	f.Faults = append(f.Faults, fmt.Sprintf(format, args...))
	f.State = Corrupt
}

func (r *Report) fault(format string, args ...any) {
	r.Faults = append(r.Faults, fmt.Sprintf(format, args...))
}

func (r *Report) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// file is the report of a file by name, or nil.
func (r *Report) file(name string) *FileReport {
	for i := range r.Files {
		if r.Files[i].Name == name {
			return &r.Files[i]
		}
	}
	return nil
}
