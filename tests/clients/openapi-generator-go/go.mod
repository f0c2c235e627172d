module tour

go 1.23

require github.com/touchpoint/client v0.0.0

replace github.com/touchpoint/client => ./client
