"Everything that trains: games, their learner and the callbacks that change a step"
