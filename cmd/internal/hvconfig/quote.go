package hvconfig

import "strings"

// ShellWord is s as one word of sh. Two dashes in a row are always within single
// quotes; see splitDashes.
func ShellWord(s string) string {
	harmless := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_@%+=:,./-", r)
	}
	if s != "" && !strings.Contains(s, "--") && strings.TrimFunc(s, harmless) == "" {
		return s
	}
	return singleQuoted(s)
}

func singleQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commas doubles the commas of a value in an option of QEMU's.
func commas(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// xlString is s as a string of an xl configuration.
func xlString(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// splitDashes takes dashes in a row apart, which a comment of XML may not hold.
// Within single quotes of sh it changes nothing: they end and begin again.
func splitDashes(s string) string {
	for strings.Contains(s, "--") {
		s = strings.ReplaceAll(s, "--", "-''-")
	}
	return s
}
