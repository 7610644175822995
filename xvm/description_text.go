package xvm

import "vmcastfs/feed/show"

// cleanText makes a foreign string harmless, and at most max bytes long.
func cleanText(s string, max int) string { return show.Clip(show.Text(show.Clip(s, 8*max)), max) }

// maxShownName bounds the names that are shown of members, in bytes.
const maxShownName = 255

// shownName is cleanText for the name of a member.
func shownName(s string) string { return cleanText(s, maxShownName) }
