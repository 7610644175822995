/*
Package page shows a mount to people: a page of HTML that is complete without
JavaScript and stays live with it, and the same picture of one image as a file.

A [Source] is what it asks, in values and functions; it imports nothing that
mounts or fetches. The server draws: a bar is an image in pieces (newBar), a
timeline is a boot (newTimeline), and [Sentence] says it in words. Everything
is read-only, for this machine alone ([Guard]), and costs nothing while nobody
looks. While somebody does, at most one part in fifty of a processor's time goes
into it.

All names, notes and errors are a stranger's text. They pass through show.Text and
html/template, and no part of the page is made of them in another way. uPlot, which
draws the rates, is the file of its npm package, with its licence beside it.
*/
package page
