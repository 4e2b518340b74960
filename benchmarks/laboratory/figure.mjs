// Trains the runs of a figure and draws it: NAME.svg and NAME.json. README.md lists the figures and their flags.
//
//   npm run build && node benchmarks/laboratory/figure.mjs NAME [--model PATH] [--output FOLDER] …
import { laboratory } from './load.mjs'

const { main } = await laboratory('figure')
await main(process.argv.slice(2))
