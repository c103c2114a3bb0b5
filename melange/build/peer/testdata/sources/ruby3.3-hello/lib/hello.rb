module Hello; WORD = "hello"; end
