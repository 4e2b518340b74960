/**
 * Charts as pure functions from numbers to SVG. They run both in Node.js and in web pages, so they have no outside
 * imports.
 */
export * from './bars.js'
export * from './dots.js'
export * from './heat-map.js'
export * from './item-code.js'
export type { Level, Line, LineChart, Moment, Plot } from './line-types.js'
export * from './lines.js'
export * from './mark.js'
export * from './numbers.js'
export * from './pack.js'
export * from './palette.js'
export * from './scale.js'
export * from './scatter.js'
export * from './series.js'
export * from './svg.js'
