// Package kept keeps on the disk, outside of the cache, what a release that was
// used is shown by: its item of the feed, and the index of its package with all
// that the verdict on it stems from. So a release that guests depend on has its
// path though the feed has dropped it, the cache has made room, and no server
// answers.
//
//	STATE/kept/FEED-NAME.json one [Release], replaced as a whole
//
// FEED and NAME are hashes of the feed's URL and of the directory name, which
// tells the generations of a release apart. The directory is this user's. A file
// that is damaged is left alone, and its release is not shown. There are at most
// maxReleases files of maxTotal bytes; of more, those of releases that are still in
// their feed go first.
package kept
