/** The service behind OpenAI's clients: files, fine-tuning jobs, models, and chats. */
export { jsonLine, jsonOf, type LogEntry, textOf } from './log.js'
export { modelName } from './models.js'
export { type ServeOptions, type Service, serve } from './server.js'
export { writtenAnswer } from './written-answer.js'
