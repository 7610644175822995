package feed

import (
	"net/url"
	"slices"
	"strings"
)

// URLKey tells whether two URLs name the same resource: they do if their keys
// are equal. The key is the URL without userinfo and fragment. If its query
// holds a signature, the parameters of the signature go too: they only say who
// may fetch the resource, and until when. Known are the signed URLs of S3 (both
// kinds), Google Cloud Storage, Azure, CloudFront, Alibaba OSS, Akamai and
// nginx's secure_link. All other parameters stay: they may say what is wanted.
func URLKey(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(an unusable URL)"
	}
	u.User = nil
	u.Fragment, u.RawFragment = "", ""
	params := strings.Split(u.RawQuery, "&")
	for _, signature := range signatures {
		signed := false
		for _, p := range params {
			signed = signed || signature.sign == paramName(p)
		}
		if !signed {
			continue
		}
		rest := params[:0:0]
		for _, p := range params {
			if !signature.has(paramName(p)) {
				rest = append(rest, p)
			}
		}
		params = rest
	}
	u.RawQuery = strings.Join(params, "&")
	if u.RawQuery == "" {
		u.ForceQuery = false
	}
	return u.String()
}

func paramName(p string) string {
	name, _, _ := strings.Cut(p, "=")
	return strings.ToLower(name)
}

// A signature is one way to sign a URL: the parameter that makes it that, and
// those that come with it, all in lower case.
type signature struct {
	sign   string
	prefix string // of all its parameters; "": see names
	names  []string
}

var signatures = []signature{
	{sign: "x-amz-signature", prefix: "x-amz-"},
	{sign: "x-goog-signature", prefix: "x-goog-"},
	{sign: "x-oss-signature", prefix: "x-oss-"},
	{sign: "signature", names: []string{"signature", "expires", "awsaccesskeyid", "googleaccessid", "ossaccesskeyid", "key-pair-id", "policy"}},
	{sign: "sig", names: []string{"sig", "sv", "ss", "srt", "sr", "sp", "st", "se", "sip", "spr", "si", "skoid", "sktid", "skt", "ske", "sks", "skv"}},
	{sign: "md5", names: []string{"md5", "expires"}},
	{sign: "hdnts", names: []string{"hdnts"}},
	{sign: "hdnea", names: []string{"hdnea"}},
}

func (s signature) has(name string) bool {
	if s.prefix != "" {
		return strings.HasPrefix(name, s.prefix)
	}
	return slices.Contains(s.names, name)
}
