// Package upstream knows what happens to recipes when those who make the software release it: where a recipe's update:
// block says that releases are announced, which of them is the latest, and how the recipe's text becomes that of another
// version.
//
// It knows nothing of building.
package upstream
