// # Hostile inputs
//
// Each row is an input, what comes of it, and the tests that show it: the ones
// named by the row's id, in cmd/vmcastfs with the built binary. "Refused" for a
// feed means that the last good one stays; for a release, that it is listed with
// state "rejected" and the reason, and holds no file. "Hidden" is left out, with
// a warning in the status. Where DIFFERS stands, a stricter or another outcome
// than the first plan's was chosen, for the reason given.
//
//	F1   DOCTYPE with entities (billion laughs) | refused
//	     feed: TestF1EntityBomb; xvm: TestDescriptionRefused; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F2   external entity | refused; no file and no address is touched
//	     feed: TestF2ExternalEntity; xvm: TestDescriptionRefused; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F3   feed of 10 GB, or without end | read up to its limit, refused; so is a package without end: the disk does not fill
//	     feed: TestF3Body; cache/remote: TestF3F4F5DocumentLimits; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds, TestF3EndlessPackage
//	F4   feed that drips | deadline for the whole, refused; the mount answers meanwhile
//	     feed: TestF4F8F15PollerKeepsLastGood; cache/remote: TestF3F4F5DocumentLimits; cmd/vmcastfs: TestF4H15Feed
//	F5   gzip bomb as transfer coding | the limit counts decoded bytes
//	     cache/remote: TestF3F4F5DocumentLimits; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F6   nesting without end | refused
//	     feed: TestF6Depth; xvm: TestDescriptionRefused; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F7   a million items | the newest 20000, with a warning; refused if most have no room for a package (2^19 in a feed)
//	     feed: TestF7Items; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F8   captive portal | refused, called a login page
//	     feed: TestF8HTML; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F9   unknown charset, NUL, broken UTF-8 | known charsets are decoded, else refused
//	     feed: TestF9Charsets; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F10  no enclosure, two, absurd length | hidden; the one that looks most like a package; length is advice
//	     feed: TestF10Enclosures; cmd/vmcastfs: TestF10F11F12F13F14F17Items
//	F11  one id twice | the newer item counts, the other is hidden
//	     feed: TestF11DuplicateIDs; cmd/vmcastfs: TestF10F11F12F13F14F17Items
//	F12  known id, other package | a new generation; open files keep the old one
//	     feed: TestF12NewPackageUnderOldID; cmd/vmcastfs: TestF10F11F12F13F14F17Items, TestF12FeedNamesAnotherPackage
//	F13  dates that are none | read leniently, else unknown
//	     feed: TestF13Dates, TestF13OrderWithOddDates; cmd/vmcastfs: TestF10F11F12F13F14F17Items
//	F14  dates in the future; feed goes back | believed with a warning; for going back see S10
//	     feed: TestF14Future; cmd/vmcastfs: TestF10F11F12F13F14F17Items, TestF14FeedRolledBack
//	F15  https feed answered over http | refused
//	     feed: TestF4F8F15PollerKeepsLastGood; cmd/vmcastfs: TestF15H5Downgrade
//	F16  other roots, old RSS, shadowed names | RSS, RDF, Atom and JSON Feed are read, else refused
//	     feed: TestF16Roots; cmd/vmcastfs: TestF1F2F3F5F6F7F8F9Feeds
//	F17  CDATA tricks, markup in titles | text
//	     feed: TestF17TextOnly; cmd/vmcastfs: TestF10F11F12F13F14F17Items
//	N1   paths as titles | one safe component
//	     feed: TestN1N2N3N4N5N8SafeName; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N2   slash, NUL, newline, tab | replaced
//	     feed: TestN1N2N3N4N5N8SafeName; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N3   terminal sequences | gone from names, status, log, errors, notes and the output of commands
//	     feed: TestN3Sanitize, TestN1N2N3N4N5N8SafeName; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N4   bidirectional, invisible and look-alike characters | gone; look-alikes get a suffix
//	     feed: TestN4HomoglyphTwins, TestN1N2N3N4N5N8SafeName; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N5   endless, empty, dotted titles | cut at a character; else named by the id
//	     feed: TestN5FallBackToID, TestN1N2N3N4N5N8SafeName; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N6   titles that collide | a suffix that stays through order, titles and restarts
//	     feed: TestN6Collisions; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N7   our own names | a suffix
//	     feed: TestN7Reserved; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	N8   leading dash, shell, comma, percent | replaced
//	     feed: TestN1N2N3N4N5N8SafeName; cmd/vmcastfs: TestN1N2N3N4N5N6N7N8Names
//	H1   file:, ftp:, data: and such | hidden; a redirect to one is refused. A local feed may name files
//	     feed: TestH1Schemes; cache/remote: TestH1OnlyHTTP; cmd/vmcastfs: TestH1H4H13H18URLs
//	H2   public feed names inner addresses | DIFFERS: refused rather than hidden, as the address is known only on connecting
//	     cache/remote: TestH2PrivateAddressFromPublicFeed, TestH2ConnectionsAreNotShared; cmd/vmcastfs: TestH2H3H5H6PublicFeed
//	H3   redirect inwards, rebinding | refused at the connection, on every hop
//	     cache/remote: TestH3RedirectAndRebinding; feed: TestH3NotModifiedByAnother; cmd/vmcastfs: TestH2H3H5H6PublicFeed
//	H4   redirect loop | refused after 10
//	     cache/remote: TestH4RedirectLoop; cmd/vmcastfs: TestH1H4H13H18URLs
//	H5   redirect from https to http | refused
//	     cache/remote: TestH5Downgrade; cmd/vmcastfs: TestF15H5Downgrade
//	H6   credentials across origins | dropped
//	     cache/remote: TestH6CredentialsStayAtTheirOrigin, TestH6ClientCertificateStaysAtItsOrigin, TestH6UserinfoInARedirect; cmd/vmcastfs: TestH2H3H5H6PublicFeed
//	H7   200 to a range | not read; from the first answer on: the archive is taken as one stream
//	     cache/remote: TestH7H8H9H10WrongAnswers; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers
//	H8   206 that is not what was asked for | thrown away, tried again, EIO. Rightly labelled wrong bytes: see S13
//	     cache/remote: TestH7H8H9H10WrongAnswers, TestH8H9H10WrongFirstAnswers, TestH8BodyAndLabelDisagree, TestH8H9H10H16H17RawAnswers; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers
//	H9   multipart/byteranges | refused
//	     cache/remote: TestH7H8H9H10WrongAnswers, TestH8H9H10WrongFirstAnswers, TestH8H9H10H16H17RawAnswers; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers
//	H10  coded 206; 200 with Content-Range | refused
//	     cache/remote: TestH7H8H9H10WrongAnswers, TestH8H9H10WrongFirstAnswers, TestH8H9H10H16H17RawAnswers; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers
//	H11  ETag changes, is weak, flaps | DIFFERS: another strong ETag ends the generation, also if it flaps; length and date are no proof against it
//	     cache/remote: TestH11Validators, TestH11Flapping, TestH11IfRange; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers, TestH11ETagsFlap
//	H12  cut or grown while being read | EIO for what is missing; nothing mixed
//	     cache/remote: TestH12ReplacedMidRead; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers
//	H13  416, 429, 503, expired certificate | bounded retries, Retry-After capped, the cache serves on
//	     cache/remote: TestH13Statuses, TestH13RangeNotSatisfiable, TestH13RetryAfterIsCapped, TestH13StormIsNotFed, TestH13ExpiredCertificate; cmd/vmcastfs: TestH1H4H13H18URLs
//	H14  signed URL expires | asked for anew at the feed's URL, same version
//	     cache/remote: TestH14SignedURLExpires; cmd/vmcastfs: TestH14ExpiredURL, TestH14FeedHasANewURL
//	H15  HEAD fails, GET works | HEAD is never asked
//	     cache/remote: TestH15HeadIsNeverAsked; cmd/vmcastfs: TestF4H15Feed
//	H16  header bomb, odd ETag | limit; hashed in the cache
//	     cache/remote: TestH16Headers, TestH8H9H10H16H17RawAnswers; cmd/vmcastfs: TestS4C4H16Release
//	H17  stall, half-open connection | a timer, another attempt; EIO only when soft
//	     cache/remote: TestH17Stalls, TestH8H9H10H16H17RawAnswers; cmd/vmcastfs: TestH7H8H9H10H11H12H17Answers
//	H18  user and password in a URL | not in status, log, attributes, /proc/mounts; refused in the feed's own. feed.xml is verbatim
//	     cache/remote: TestH18NoSecretsInMessages; cmd/vmcastfs: TestH1H4H13H18URLs
//	T1   names that lead out | hidden
//	     xvm: TestT1UnsafeNames; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T2   symbolic links | hidden, with what lies behind them; also those that stay inside
//	     xvm: TestT2SymbolicLinks; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T3   hard links | to an earlier file: shown; else hidden
//	     xvm: TestT3HardLinks; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T4   devices, setuid | hidden; modes are 0444
//	     xvm: TestT4DevicesAndModes; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T5   one name twice | refused
//	     xvm: TestT5Duplicates; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T6   PAX size and header differ | PAX counts, for content and the next header
//	     xvm: TestT6PaxSizeWins; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T7   mixed, malformed, unended extended headers | refused
//	     xvm: TestT7ExtendedHeaders; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T8   huge, negative sizes | refused
//	     xvm: TestT8HugeHeadersAndSizes; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T9   hostile sparse maps | refused
//	     xvm: TestT9SparseMaps, TestT9SparseForms; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T10  8 EiB out of 512 bytes | limit; below it holes cost next to nothing, df and lseek tell the truth
//	     xvm: TestT10ApparentSize; cache/store: TestT10HolesAreSmall; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T11  cut archive | DIFFERS: the cut member is hidden, as it can match no sum; what is before it is shown
//	     xvm: TestT11Truncated; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T12  garbage between members | refused; behind the end mark nothing is looked at
//	     xvm: TestT12Garbage; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T13  a million members | refused beyond 65536; few requests for many small ones
//	     xvm: TestT13ManyTinyMembers; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T14  endless paths | hidden
//	     xvm: TestT14LongNames; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T15  file and directory of one name | refused
//	     xvm: TestT15FileAndDirectory; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T16  no tar | refused, and called what it is
//	     xvm: TestT16NotATar; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T17  volume labels, unknown types | hidden
//	     xvm: TestT17OddTypes; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	T18  huge, doubled, misplaced metadata | limit; refused; only the root's counts
//	     xvm: TestT18Descriptions, TestManifestRefused, TestDescriptionRefused; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	S1   listed and absent, present and unlisted | warning; "unverified", and refused under sig=require
//	     xvm: TestS1Listing; xvm/pack: TestCheckOtherPackages; cmd/vmcastfs: TestSignaturesByGnuPG
//	S2   odd names in the manifest | brought to one form, else refused
//	     xvm: TestS2Names, TestManifestRefused; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	S3   sums that contradict each other | refused
//	     xvm: TestManifestRefused; xvm/pack: TestCheckOtherPackages; cmd/vmcastfs: TestT1T2T3T4T5T6T7T8T9T10T11T12T13T14T15T16T17T18Packages
//	S4   sums of no known kind | prove nothing: "unverified". DIFFERS: MD5 counts, as XVM2 has no other; it excludes accidents
//	     xvm: TestS4Unsupported; cmd/vmcastfs: TestS4C4H16Release, TestManifestForms
//	S5   unsigned, or signed for another release | refused under sig=require
//	     xvm: TestSignatures; fs/catalog: TestS5Replay, TestS5Bound; cmd/vmcastfs: TestSignaturesByGnuPG
//	S6   inline or cleartext for a detached signature | refused
//	     xvm: TestSignatures, TestManifestRefused; cmd/vmcastfs: TestSignaturesByGnuPG
//	S7   junk, several signatures | one good one is needed; the others are told
//	     xvm: TestSignatures, TestS7TooManySignatures; cmd/vmcastfs: TestSignaturesByGnuPG
//	S8   SHA-1, MD5, short keys | refused, with the reason
//	     xvm: TestSignatures; cmd/vmcastfs: TestSignaturesByGnuPG
//	S9   expired, revoked, from the future, wrong subkey | refused; superseded keys: what they signed before counts
//	     xvm: TestSignatures, TestS9SignatureItself, TestS9Subkeys; cmd/vmcastfs: TestSignaturesByGnuPG
//	S10  rollback, freeze, fast-forward | alarm, and held back under sig=require until accepted; a feed that stands still is "stale", no more
//	     fs/catalog: TestS10ManifestChanged, TestS10Rollback, TestS10RollbackAccepted; cmd/vmcastfs: TestTrustCommand
//	S11  keys in the feed or package | ignored
//	     xvm: TestSignatures; cmd/vmcastfs: TestSignaturesByGnuPG
//	S12  escapes in user ids, huge keyrings | gone; limit
//	     xvm: TestS12Identity, TestS12LoadKeyringRefuses
//	S13  wrong at the last byte | corrupt: EIO for good, event, metric, pages dropped
//	     cache: TestS13Corrupt; cmd/vmcastfs: TestCorruptImage, TestPagesOfACorruptImage, TestHooks
//	C1   gzip, bzip2, xz, zstd bombs | limits on size, ratio, window, time, on memory for any number; the cache keeps its limit
//	     xvm/seekable: TestC1, TestC1XZ, TestC1Zstd, TestC1Budget, TestStalledDecoderYields; fs/catalog: TestC1SharedBudget; cmd/vmcastfs: TestC1C2Bombs
//	C2   garbage behind gzip, wrong length or check | true size; EIO at the fault
//	     xvm/seekable: TestC2; xvm/pack: TestCheckOtherPackages; cmd/vmcastfs: TestC1C2Bombs
//	C3   images that name other files | told by user.vmcast.format; opening them is EACCES unless allow_external
//	     xvm: TestSniffImages, TestSniffMagics; fs/catalog: TestC3ExternalRefused, TestC3Strict, TestC3NoBackDoor; cmd/vmcastfs: TestC3AllowExternal
//	C4   descriptions with host paths and command lines | left out, with a warning
//	     xvm: TestC4HostileDescription; cmd/vmcastfs: TestS4C4H16Release
//	L1   bit flips on the cache disk | found, dropped, fetched again; in a verified image that the kernel reads by itself only once "cache verify" has run (or with passthrough=off)
//	     cache: TestL1Damage; cache/store: TestL1FlippedBitInData, TestL1FlippedBitInJournal, TestL1DamagedDoc; cmd/vmcastfs: TestFlippedBitInTheCache, TestFlippedBitUnderTheKernel
//	L2   prepared directories and links | refused, not followed
//	     cache/store: TestL2SymlinkInside, TestL2SwappedDirectory, TestL2ForeignFile; feed: TestL2WriterOfALocalFeed; fs/catalog/trust: TestL2SwappedState, TestL2PlantedState; cmd/vmcastfs: TestL2PreparedDirectories, TestL2LinksInsideTheCache, TestL2LocalFeedOfAnotherUser, TestL2CacheRefused
//	L3   full, read-only, failing disk | read without the cache; a verified image that the kernel reads by itself is EIO until it is closed (or passthrough=off)
//	     cache: TestStrictFull; cache/store: TestL3DiskFull, TestL3FloorAndReadOnly, TestL3Loose, TestL3LooseSettles; cmd/vmcastfs: TestL3FullDisk, TestL3BrokenDisk, TestL3CacheFloor, TestL3StrictSmallCache, TestL3BrokenDiskUnderTheKernel
//	L4   killed while writing | no false block
//	     cache/store: TestL4Killed, TestL4TornJournal; cmd/vmcastfs: TestL4Killed, TestL4PowerLoss
//	L5   two daemons, other versions | shared; a later version is refused
//	     cache/store: TestL5NewerJournal; cmd/vmcastfs: TestL5SharedCache
//	L6   user mounts | seen by that user only, unless fuse.conf lets others
//	     cmd/vmcastfs: TestL6UserMount
//	L7   sockets | none unless asked for; mode 0600 or loopback; links are not followed
//	     cmd/vmcastfs: TestL7Sockets, TestMetricsAddress
package main
