// Package dataset reads labelled pictures that somebody else made, safely.
//
// A dataset is an ImageFolder, one folder of pictures per class, or a .zip,
// .tar or .tar.gz of one. What the path holds is told by its content, not by
// its name. The class of a picture is the name of the folder it lies in;
// leading folders such as train/ are stripped. Pictures are PNG, JPEG or WebP.
//
// [Open] decodes all of it into memory as uint8 RGB, [Check] only looks. Both
// treat the input as hostile: sizes are read and bounded before anything is
// decoded, names are checked before they are used, links are refused, and
// nothing is unpacked to disk. What is wrong comes back as one [InvalidError]
// with up to ten [Problem] values, each with the file and the remedy.
//
// # Pixels
//
// Grey, palette, CMYK and 16-bit pictures become 8-bit RGB; a picture with
// transparency is composited over white ([Dataset.Alpha] counts them). A
// picture that is not Size×Size already is cropped to its central square and
// resized with an antialiased bicubic filter. EXIF orientation and colour
// profiles are not applied, as in torchvision.
//
// # Training
//
// [Split] holds out a stratified part, [Loader] prepares augmented batches
// ahead of their use. Both are functions of their seed.
package dataset
