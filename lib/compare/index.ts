/** Comparisons of strategies, and of finished runs, as the command line starts and shows them. */
export {
  type AnswerScore,
  type ComparedAnswers,
  canonicalJson,
  compareAnswers,
  type Match,
} from './answers.js'
export { unequalSizes } from './equal.js'
export type { Margin } from './margin.js'
export { METRIC_NAMES } from './metrics.js'
export { compareOn, verifyOn } from './on-ranks.js'
export type { CompareEvent, CompareOptions } from './options.js'
export { resultsPath } from './results-file.js'
export { isCompare, reviewed } from './review.js'
export { type ComparedRun, type ComparedRuns, compareRuns, type FlippedRow } from './runs.js'
export { compareScores } from './scored-answers.js'
export type { Verdict } from './statistics/index.js'
export { verdictBeside } from './verdict.js'
export { verifiedNow, verifiedWords } from './verified.js'
