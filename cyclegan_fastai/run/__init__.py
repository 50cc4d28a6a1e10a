"Recipes, the folders of runs, and comparisons between runs"
