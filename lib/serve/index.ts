/** The service behind OpenAI's clients: files, fine-tuning jobs, models, and chats. */
export { checkItems, graded, rewardBy } from './graders/grade.js'
export { type Grader, graderOf } from './graders/grader.js'
export { jsonLine, jsonOf, type LogEntry, textOf } from './log.js'
export { modelName } from './models.js'
export { type ServeOptions, type Service, serve } from './server.js'
export { writtenAnswer } from './written-answer.js'
