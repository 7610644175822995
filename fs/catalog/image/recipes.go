package image

// recipes are the ways to make an image. The first that fits does.
var recipes = [...]func(order) (_ recipe, fits bool){
	newChunks,
	newGzipBlocks,
	newInflated,
	newStored,
}

func recipeFor(o order) recipe {
	for _, make := range recipes {
		if r, fits := make(o); fits {
			return r
		}
	}
	return nil // newStored fits everything
}
