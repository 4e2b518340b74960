/** A line chart as data, and its place in the drawing. */
import type { Shape } from './mark.js'
import type { Scale, ScaleType } from './scale.js'
import type { Value } from './series.js'
import type { Described } from './svg.js'

export interface Line {
  /** In ascending order. */
  x: readonly number[]
  y: readonly Value[]
  /** Hue index, from 0; a faint gray if absent. */
  hue?: number
  /** Label at the end of the line. */
  name?: string
  /** `raw` is faint, for raw values behind a running mean; `none` draws only dots. */
  stroke?: 'line' | 'thin' | 'raw' | 'dash' | 'ghost' | 'none'
  /** Shape of a dot at each point. */
  dots?: Shape
  /** Ends of the whiskers. */
  low?: readonly Value[]
  high?: readonly Value[]
  /** Fill the area down to 0. */
  area?: boolean
}

export interface Level {
  value: number
  name?: string
  /** Preferred position of the name, which moves along the level if a line passes there. Default: above the right end. */
  at?: 'left' | 'right' | 'beside'
}

/** A point of x with a name, such as the best step. */
export interface Moment {
  x: number
  name: string
}

export interface LineChart extends Described {
  width: number
  height: number
  lines: readonly Line[]
  xDomain?: readonly [number, number]
  yDomain?: readonly [number, number]
  /** A log scale omits nonpositive values, and becomes linear if none are left. */
  yScale?: ScaleType
  /** Start the y axis at 0. */
  fromZero?: boolean
  levels?: readonly Level[]
  /** Vertical lines with names. */
  moments?: readonly Moment[]
  /** Short marks on the x axis, e.g. for checkpoints, with tooltip texts. */
  stops?: readonly { x: number; name: string }[]
  /** Labels on the x axis. Default: round numbers. */
  places?: readonly { x: number; name: string }[]
  xFormat?: (value: number) => string
  yFormat?: (value: number) => string
  xLabel?: string
  yLabel?: string
  /** Approximate number of ticks. */
  yTicks?: number
  /** Use round ticks in KiB, MiB, etc. on the y axis. */
  sizes?: boolean
  /** Space for the y-axis ticks, in pixels. */
  left?: number
  right?: number
}

/** A chart with its scales, for positioning a cursor. */
export interface Plot {
  svg: string
  x: Scale
  /** Clamped to the plot. */
  y: Scale
  width: number
  height: number
  left: number
  right: number
  top: number
  bottom: number
}

export interface Frame extends Omit<Plot, 'svg' | 'width' | 'height'> {
  shown: (value: Value | undefined) => value is number
}
