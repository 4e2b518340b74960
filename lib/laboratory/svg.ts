/** Code shared by the charts of this folder. */

/** Told apart by those who do not see red and green (Okabe and Ito 2008). */
export const COLORS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#999999', '#f0e442']
export const INK = '#1f2328'
export const FAINT = '#59636e'

export const round = (value: number) => Number(value.toFixed(1))
export const escaped = (words: string) => words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
/** Width of a line in pixels at 13 px, on the safe side: fonts differ by reader. */
export const widthOf = (words: string) => 7.6 * words.length
