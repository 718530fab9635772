"""Parts of the synthetic pedestrians; `workbook.pedestrians.synthetic` makes a data set of them.

Who they are is in `wardrobe`, how they are drawn in `canvas`, `body`, `clothes`, `head`, `carried` and
`person`, where they are seen in `scenery`, and how all this becomes a picture in `picture`.
"""
